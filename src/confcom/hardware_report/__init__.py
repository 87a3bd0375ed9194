"""The report of a node's SGX hardware that its owner sends to this project: collected, redacted, explained.

`collect` and `node_files` read the node, `aesm_calls` asks the AESM service; all other modules are pure. Nothing here
decides anything for the add-on, and nothing fails: what is missing is a finding.
"""

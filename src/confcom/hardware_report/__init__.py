"""The report of a node's SGX hardware that its owner sends to this project: collected, redacted, explained.

`collect`, `devices` and `node_files` read the node, `aesm_calls` and `last_quote` ask its services; the packages
`sections` and `document` are pure. Nothing here decides anything for the add-on, and nothing fails: what is missing is
a finding.
"""

"""The daemon that writes what a node's plugin found into the node's capacity, where EPC is not offered as devices.

`reconcile` keeps what is known and decides from values alone; `api_server` and `plugins` talk to the API server and to
the plugins. Reasons: docs/adr, "A controller for node capacity".
"""

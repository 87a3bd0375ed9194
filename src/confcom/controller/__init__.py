"""The daemon that writes what a node's plugin found into the node's capacity, where EPC is not offered as devices.

`reconcile` decides from values alone, `reading` and `inventory` make those values of documents, and `state` keeps
them. `api` and `plugins` talk to the API server and to the plugins; `following` keeps the state current, and
`applying` carries out what was decided. Reasons: docs/adr, "A controller for node capacity".
"""

"""The daemon that writes EPC into the capacity of nodes without EPC devices (docs/adr, decision 19)."""

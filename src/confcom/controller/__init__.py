"""The daemon that writes EPC into the node's capacity where EPC has no devices (docs/adr, decision 19)."""

"""The daemon that writes a node's EPC into its capacity if EPC has no devices (docs/adr, decision 19)."""

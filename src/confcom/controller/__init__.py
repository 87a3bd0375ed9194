"""The daemon that writes EPC into nodes' capacity, where it is not offered as devices (docs/adr, decision 19)."""

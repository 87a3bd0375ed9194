"""Commands for the add-on of a cluster."""

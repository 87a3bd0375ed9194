"""The add-on of a cluster: what is created in it once, and how a person's machine reads it."""

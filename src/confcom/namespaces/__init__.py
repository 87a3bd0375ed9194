"""Mounts in a new namespace: what the demo's containers and `confcom run` share. Nothing here starts a process."""

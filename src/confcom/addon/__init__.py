"""The add-on of a cluster: installing, updating, checking and removing it from a user's machine."""

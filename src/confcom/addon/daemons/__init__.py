"""The pods of the add-on's own daemons: their states, logs, and the simulated root that they use. Pure."""

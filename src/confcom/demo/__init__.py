"""The demo's six steps, which use public commands only; daemons, workload and verifier are processes."""

"""The demo's six steps, which use public commands only. Daemons, workload and verifier are own processes."""

"""The demo's six steps, which use public commands only.

This package neither makes nor checks a quote. Daemons, workload and verifier are separate processes. The demo
starts these processes with the same commands that it prints, so that a user can repeat each step by hand.
"""

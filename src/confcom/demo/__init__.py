"""The demo's six steps, which use public commands only.

Nothing in this package makes or checks a quote. Daemons, workload and verifier are processes of their own. The demo
starts them with the same commands that it prints, so that a user can repeat each step by hand.
"""

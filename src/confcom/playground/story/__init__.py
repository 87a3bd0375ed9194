"""The demo's story: six steps, told with public commands only.

Nothing here makes or checks a quote. Daemons, workload and verifier are processes of their own, started by the
same commands that the story prints, so whoever doubts a step can repeat it by hand.
"""

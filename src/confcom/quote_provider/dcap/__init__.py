"""Quotes by Intel's DCAP libraries, in a child process (experimental).

Only `child` loads the libraries. It is a program of its own: they may crash, hang, or be left by one failure in a state
that only the end of the process ends.
"""

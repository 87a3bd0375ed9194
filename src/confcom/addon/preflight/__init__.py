"""The checks before a change: everything that could make it fail is a finding. Pure.

What they need is read by `cluster.preflight_reader`.
"""

"""The container runtime's part: processes with a root file system, mounts and devices of their own, and their logs.

Starts processes, mounts, and writes below the playground's directory.
"""

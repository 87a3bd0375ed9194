"""The relay to an unmodified aesmd of Intel's, which alone makes quotes on SGX hardware.

Touches aesmd's private socket and the directory around it.
"""

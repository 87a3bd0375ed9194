"""The relay to an unmodified aesmd of Intel's. On SGX hardware, only aesmd makes quotes.

This package touches aesmd's private socket and the directory around it.
"""

"""SGX data structures: reports, quotes (also of TDX), certificates, TCB levels, EPC sections.

This package parses and encodes bytes and checks the signatures in them, without I/O. Intel's documents define the
names. `parse` raises MalformedError if bytes are not exactly the structure; `encode` raises it if a field does not fit.
"""

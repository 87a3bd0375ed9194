"""SGX data structures: reports, quotes, certificates, TCB levels, EPC sections.

This package parses and encodes bytes and checks the signatures in them, without I/O. Names are those of Intel's
documents. `parse` raises MalformedError if bytes are not exactly the structure, `encode` if a field does not fit.
"""

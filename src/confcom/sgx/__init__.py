"""SGX data structures: reports, quotes, certificates, TCB levels, EPC sections.

Pure: parsing and encoding of bytes, and the checks of signatures in them. Names follow the SDM and Intel's headers.
Every `parse` and `encode` raises MalformedError if bytes are not exactly the structure, or a field does not fit in it.
"""

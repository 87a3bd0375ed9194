"""SGX data structures: parsing and encoding, without I/O. Names follow the SDM and Intel's headers."""

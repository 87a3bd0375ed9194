"""SGX's own data structures: bytes in, values out. Pure; names follow the SDM and Intel's headers."""

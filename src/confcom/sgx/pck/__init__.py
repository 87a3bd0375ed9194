"""The PCK certificate: its chain, and the only codec of the DER of its SGX extension. Pure."""

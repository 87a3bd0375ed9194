"""The PCK certificate: its chain, and the SGX extension, whose DER is known here alone. Pure."""

"""The PCK certificate: its chain, and the only code that reads and writes its SGX extension. No I/O."""

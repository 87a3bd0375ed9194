"""The program of the demo's container: an ordinary enclave program, as far as one can be without an enclave."""

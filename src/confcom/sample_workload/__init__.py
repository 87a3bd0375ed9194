"""The program of the demo's container: it does what an enclave program does, with a simulated enclave."""

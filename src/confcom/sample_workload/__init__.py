"""The program in the demo's container: it behaves like an enclave program, with a simulated enclave.

Touches the AESM socket and the SGX device node. An import contract keeps it from the provider's keys.
"""

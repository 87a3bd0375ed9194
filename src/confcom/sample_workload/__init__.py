"""The program in the demo's container. It behaves like an enclave program, but its enclave is simulated.

The program uses the AESM socket and the SGX device node. An import contract bars it from the provider's keys.
"""

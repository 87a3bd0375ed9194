"""The program in the demo's container. It behaves like an enclave program, but its enclave is simulated.

Touches the AESM socket and the SGX device node. An import contract keeps it from the provider's keys.
"""

"""The program in the demo's container: it does what an enclave program does, with a simulated enclave.

Touches the AESM socket and the SGX device node. It cannot reach the provider's keys, which a contract holds.
"""

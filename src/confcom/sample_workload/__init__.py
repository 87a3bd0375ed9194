"""The program in the demo's container, which behaves like an enclave program with a simulated enclave.

The program uses the AESM socket and the SGX device node; an import contract bars it from the provider's keys.
"""

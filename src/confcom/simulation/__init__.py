"""A simulated SGX platform: keys, certificates, enclave reports, a quoting enclave, and collateral.

Pure: randomness and time are parameters. Everything that it makes carries marks of simulation.
"""

"""A simulated SGX platform: keys, certificates, enclave reports, quoting enclaves, trust domains, and collateral.

No I/O: randomness and time are parameters. All quotes, certificates and collateral carry marks of simulation.
"""

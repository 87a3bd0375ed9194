"""A simulated SGX platform: keys, certificates, enclave reports, quoting enclave and collateral."""

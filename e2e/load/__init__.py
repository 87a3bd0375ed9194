"""AESM clients in Pods, which attest at a fixed rate, and the result of each attestation and each quote."""

"""Clients of AESM in Pods, at a fixed rate, with the result of each attestation and each quote."""

"""Clients of AESM in pods, at a fixed rate, and what became of each attestation and each quote."""

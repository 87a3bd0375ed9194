"""Hostile and healthy evidence for the verifier: a laboratory that makes both, and Intel's own library to compare."""

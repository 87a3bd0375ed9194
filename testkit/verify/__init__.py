"""Hostile and healthy evidence for the verifier, and a laboratory that makes both."""

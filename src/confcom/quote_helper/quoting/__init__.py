"""Answering of AESM requests: fair turns, deadlines, and the quote provider with its self-test."""

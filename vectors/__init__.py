"""Vectors for verifiers of quotes: good and bad evidence, each with the verdict that it must get."""

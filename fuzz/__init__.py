"""Fuzzing: the AESM session and a live helper by a generator, six parsers by atheris; see docs/how-to/fuzz.md."""

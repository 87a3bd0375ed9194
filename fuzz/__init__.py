"""Structure-aware fuzzing of the AESM session and of a live quote helper; see docs/how-to/fuzz.md."""

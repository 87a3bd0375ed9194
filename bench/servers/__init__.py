"""Servers to compare the quote helper with: as bare as can be, and the helper's own without what it tells."""

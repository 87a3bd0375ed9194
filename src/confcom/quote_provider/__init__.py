"""Quote providers behind one interface; the quote helper uses only this package to make quotes."""

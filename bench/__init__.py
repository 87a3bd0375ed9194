"""How fast the quote helper is, and how long it bears what is done to it: `make bench` and `make soak`."""

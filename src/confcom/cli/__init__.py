"""The command line. Each command parses its options, calls one package, and prints; imports happen when it runs."""

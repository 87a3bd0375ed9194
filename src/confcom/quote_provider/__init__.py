"""Quote providers behind one interface (`base`); the quote helper makes quotes by this package only.

Touches the state directory, where the simulated platform is kept, and the private socket of Intel's aesmd.
"""

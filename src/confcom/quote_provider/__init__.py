"""Quote providers behind one interface (`base`), and checks of the quotes that a quoting service makes.

This package touches the state directory, where the simulated platform is kept.
"""

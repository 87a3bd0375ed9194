"""Quote providers behind one interface (`base`), and checks of the quotes that a quoting service makes.

Touches the state directory, where the simulated platform is kept.
"""

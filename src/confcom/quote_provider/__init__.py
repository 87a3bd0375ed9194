"""Quote providers behind one interface (`base`), and the checks of what a quoting service makes.

Touches the state directory, where the simulated platform is kept.
"""

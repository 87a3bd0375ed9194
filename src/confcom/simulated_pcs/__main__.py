"""`python -m confcom.simulated_pcs`."""

from confcom.extras import run_as_module

if __name__ == "__main__":
    run_as_module("simulated_pcs", "daemon")

"""`python -m confcom.controller`."""

from confcom.extras import run_as_module

if __name__ == "__main__":
    run_as_module("controller", "controller")

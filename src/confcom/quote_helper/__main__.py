"""`python -m confcom.quote_helper`."""

from confcom.extras import run_as_module

if __name__ == "__main__":
    run_as_module("quote_helper", "daemon")

"""Code shared by tests, benchmarks, fuzzing and cluster cases: stand-ins, replayed clients, running daemons.

It is no part of the product: nothing in `src` imports it. Pods of the cases mount it, so its modules import pytest
only inside functions that tests call.
"""

"""Code shared by tests, benchmarks, fuzzing and cluster cases: stand-ins, replayed clients, running daemons.

This package is not part of the product, and nothing in `src` imports it. The Pods of the cluster cases mount
the package, so its modules import pytest only inside functions that tests call.
"""

"""What tests, benchmarks, fuzzing and the cases on a cluster share: stand-ins, replayed clients, running daemons.

It is no part of the product, and nothing in `src` imports it. Pods of the cases mount it, so its modules import pytest
only where a test calls them.
"""

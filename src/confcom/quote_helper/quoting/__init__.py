"""From an AESM request to its answer: fair turns, deadlines, and the quote provider with its self-test.

Calls the provider in the event loop or in worker threads. Knows no sockets.
"""

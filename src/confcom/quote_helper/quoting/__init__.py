"""Answering of AESM requests: fair turns, deadlines, and the quote provider with its self-test.

Calls the provider in the event loop or in worker threads. Does not use sockets. The checks of a request's
parameters are in `aesm.request_checks`.
"""

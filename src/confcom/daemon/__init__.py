"""Code that the daemons share: settings, logs, probes, supervision, backoff, paths of unix sockets.

These modules touch files, sockets and signals, but not SGX, Kubernetes or command-line libraries.
"""

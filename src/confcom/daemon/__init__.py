"""Code that the daemons share: settings, logs, probes, supervision, backoff, paths of unix sockets.

Touches files, sockets and signals. Independent of SGX and of Kubernetes, and without command-line libraries.
"""

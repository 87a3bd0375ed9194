"""Code that the daemons share: settings, logs, probes, supervision, backoff, paths of unix sockets.

Touches files, sockets and signals. Uses neither SGX nor Kubernetes nor command-line libraries.
"""

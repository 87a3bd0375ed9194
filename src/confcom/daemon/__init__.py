"""What the daemons share: settings, logs, probes, supervision, unix sockets. Knows nothing of SGX."""

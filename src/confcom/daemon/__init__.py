"""Code shared by the daemons: settings, logs, probes, supervision, unix sockets. Independent of SGX."""

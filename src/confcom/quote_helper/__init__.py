"""The SGX quote helper: AESM's protocol on a unix socket, quotes through a quote provider.

Touches the AESM socket, its state directory, and /proc to identify peers. `main` is the composition root.
`limits_and_deadlines` has what depends on the memory limit or is a setting: connections, waiting requests, the memory
of each peer, and deadlines as that for BUSY.
"""

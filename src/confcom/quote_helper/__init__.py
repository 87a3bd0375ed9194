"""The SGX quote helper: AESM's protocol on a unix socket, quotes through a quote provider.

Touches the AESM socket, its state directory, and /proc to identify peers. `main` is the composition root.
"""

"""The SGX quote helper, which serves AESM's protocol on a unix socket and gets quotes from a quote provider.

Touches the AESM socket, its state directory, and /proc to identify peers. `main` is the composition root.
"""

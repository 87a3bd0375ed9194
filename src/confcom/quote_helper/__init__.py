"""The SGX quote helper, which serves AESM's protocol on a unix socket and gets quotes from a quote provider.

It touches the AESM socket, its state directory, and /proc to identify peers. `main` puts the parts together.
"""

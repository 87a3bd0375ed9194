"""The SGX quote helper, which serves AESM's protocol on a unix socket and gets quotes from a quote provider.

The helper uses the AESM socket, its state directory, and /proc to identify peers. `main` joins the parts.
"""

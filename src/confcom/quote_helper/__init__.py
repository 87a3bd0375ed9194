"""The SGX quote helper: AESM's protocol on a unix socket, quotes through a quote provider."""

"""The checks of a quote: an adapter to dcap-qvl's checks, and our own checks, which do no I/O."""

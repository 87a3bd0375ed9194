"""The checks of a quote: an adapter to dcap-qvl's checks, and our own checks. Pure, except for dcap-qvl."""

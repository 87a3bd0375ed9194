"""The checks of a quote: dcap-qvl's, by an adapter, and ours beside them. Pure but for dcap-qvl."""

"""The checks of a quote: dcap-qvl's, by an adapter, and ours beside them.

Pure but for dcap-qvl. Each check returns findings; `confcom.verify.verifier` runs them in order.
"""

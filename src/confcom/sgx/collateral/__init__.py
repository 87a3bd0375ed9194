"""Collateral: what verification needs besides the quote and the root, as Intel's PCS serves it, strictly parsed.

Pure: bytes in, typed documents out. It verifies no signature.
"""

"""Fortanix' own AESM client, the real crate, in a small Rust program: built once, run as often as one likes."""

from e2e.fortanix.client import FortanixQuote, build, find_cargo, quote_once

__all__ = ["FortanixQuote", "build", "find_cargo", "quote_once"]

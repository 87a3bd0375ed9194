"""Fortanix' dcap-ql, the real crate, in a small Rust program: it calls Intel's quoting library, whichever is loaded."""

from e2e.dcap_ql.client import CLIENT, LibraryQuote, quote_once

__all__ = ["CLIENT", "LibraryQuote", "quote_once"]

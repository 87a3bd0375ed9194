"""What our small Rust programs share: how they are built, and how they are spoken with."""

from e2e.rust.client import RustClient, find_cargo

__all__ = ["RustClient", "find_cargo"]

"""The SGX add-on for any Kubernetes.

For programs: `confcom.client` gets quotes, `confcom.verify` verifies them.
"""

__version__: str


def __getattr__(name: str) -> object:
    """Look up `__version__` on first use: the look-up takes longer than a daemon's other imports of this package."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 # see above

        return version("confcom")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

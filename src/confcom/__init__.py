"""The SGX add-on for any Kubernetes.

Python programs get quotes with `confcom.client` and verify quotes with `confcom.verify`.
"""

__version__: str


def __getattr__(name: str) -> object:
    """Look up `__version__` on first use, as the look-up takes longer than a daemon's other imports of confcom."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 # the docstring says why

        return version("confcom")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Sources of Rust crates, where cargo has put them; nothing is downloaded here."""

import os
from pathlib import Path

import pytest


def crate_source(name, version):
    """Return the folder of a crate's source; skip the test without it."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    found = sorted((home / "registry" / "src").glob(f"*/{name}-{version}"))
    if not found:
        pytest.skip(f"cargo has no source of {name} {version} here; the case e2e/full/test_dcap_ql.py fetches it")
    return found[0]

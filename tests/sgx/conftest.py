from pathlib import Path

import pytest
from hypothesis import strategies as st

VECTORS = Path(__file__).parent.parent / "vectors"


def exactly(size):
    return st.binary(min_size=size, max_size=size)


@pytest.fixture(scope="session")
def chain_quote():
    """A genuine quote with a PCK certificate chain (type 5): leaf, root, intermediate, no newline at the end."""
    return (VECTORS / "genuine-quotes" / "quote_pck_cert_chain.bin").read_bytes()


@pytest.fixture(scope="session")
def ppid_quote():
    """A genuine quote with an encrypted PPID (type 3) instead of a chain."""
    return (VECTORS / "genuine-quotes" / "quote_raw_tcb.bin").read_bytes()

import errno
import os
from pathlib import Path

import pytest

from testkit.confcom_process import Case, execute

QUOTE = Path(__file__).parent.parent / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"
FULL = Path("/dev/full")


@pytest.fixture
def confcom(tmp_path):
    return lambda *arguments, env=(), **streams: execute(Case(arguments, environ=dict(env)), tmp_path, **streams)


@pytest.fixture
def full():
    if not FULL.exists():
        pytest.skip("needs /dev/full, which refuses every byte as a full disk does")
    with FULL.open("wb", buffering=0) as file:
        yield file


@pytest.mark.parametrize("args", [["inspect", QUOTE], ["inspect", QUOTE, "--output", "json"], ["--help"]])
@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_full_disk_under_the_output_is_explained(confcom, full, args, env):
    result = confcom(*args, stdout=full, env=env)
    assert result.returncode == 1
    what, why, do = result.stderr.decode().splitlines()
    assert what.startswith("Error: ")
    assert why == f"  why: {os.strerror(errno.ENOSPC)}"
    assert do.startswith("  do:  ")


def test_a_reader_that_went_away_ends_it_quietly(confcom):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = confcom("inspect", QUOTE, stdout=writer)
    finally:
        os.close(writer)
    assert result.returncode == 1
    assert result.stderr == b""


def test_an_error_that_cannot_be_told_keeps_its_exit_code(confcom, full, tmp_path):
    (tmp_path / "q.bin").write_bytes(b"")
    assert confcom("inspect", tmp_path / "q.bin").returncode == 5
    assert confcom("inspect", tmp_path / "q.bin", stderr=full).returncode == 5

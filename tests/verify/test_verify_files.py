import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import ExitCode, MalformedError
from confcom.sgx.collateral_bundle import COLLATERAL_FILES
from confcom.verify import files
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.files import UnreadableInputError, decoded, read_collateral, read_quote, read_root
from testkit.expected_errors import raises

IN_TEXT = {
    "no text": lambda quote: quote,
    "hexadecimal": lambda quote: quote.hex().encode(),
    "upper case, and a line feed": lambda quote: quote.hex().upper().encode() + b"\n",
    "0x": lambda quote: b"0x" + quote.hex().encode(),
    "spaced": lambda quote: quote.hex(" ").encode(),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64url": base64.urlsafe_b64encode,
    "base64url without padding": lambda quote: base64.urlsafe_b64encode(quote).rstrip(b"="),
}


@pytest.fixture
def directory(evidence, tmp_path):
    return evidence.write(tmp_path) / "collateral"


def test_collateral_through_links_as_kubernetes_mounts_it(evidence, directory, tmp_path):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "..data").symlink_to(directory)
    for name in COLLATERAL_FILES:
        (mounted / name).symlink_to(Path("..data") / name)
    assert read_collateral(mounted) == evidence.collateral


def test_the_export_directory_itself_is_incomplete(directory):
    with raises("collateral-incomplete", MalformedError, "why", "remedy"):
        read_collateral(directory.parent)


def test_a_file_of_another_kind_or_too_large(directory, monkeypatch):
    (directory / "pck_crl.der").unlink()
    os.mkfifo(directory / "pck_crl.der")
    with raises("unreadable", UnreadableInputError, "remedy"):
        read_collateral(directory)
    monkeypatch.setattr(files, "MAX_COLLATERAL_FILE_SIZE", 100)
    with raises("unreadable", UnreadableInputError, "why", "remedy"):
        read_collateral(directory)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        *((read, name) for read in (read_quote, read_root) for name in ("nothing", "directory")),
        *((read_quote, name) for name in ("fifo", "/dev/null")),
        *((read_collateral, name) for name in ("nothing", "fifo")),
    ],
)
def test_what_cannot_be_read_is_refused_without_waiting(read, name, tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    with raises("unreadable", UnreadableInputError, "remedy", naming=str(tmp_path / name)) as caught:
        read(tmp_path / name)
    assert caught.value.exit_code is ExitCode.UNUSABLE


@pytest.mark.parametrize("encode", IN_TEXT.values(), ids=IN_TEXT.keys())
def test_a_quote_may_be_text(encode, evidence, tmp_path):
    (tmp_path / "q.txt").write_bytes(encode(evidence.quote))
    assert read_quote(tmp_path / "q.txt") == evidence.quote
    (tmp_path / "q.txt").write_bytes(encode(bytes([3, 0]) + bytes(MAX_QUOTE_SIZE - 2)))
    assert len(read_quote(tmp_path / "q.txt")) == MAX_QUOTE_SIZE
    (tmp_path / "q.txt").write_bytes(encode(bytes([3, 0]) + bytes(MAX_QUOTE_SIZE - 1)))
    with raises("unreadable", UnreadableInputError):
        read_quote(tmp_path / "q.txt")


@given(rest=st.binary(max_size=200), encode=st.sampled_from(sorted(IN_TEXT)))
def test_text_is_decoded_and_a_quote_is_no_text(rest, encode):
    quote = b"\3\0" + rest
    assert decoded(quote) == quote
    assert decoded(IN_TEXT[encode](quote)) == quote


@given(st.binary(max_size=300))
def test_whatever_comes_is_decoded_or_left_as_it_is(data):
    assert len(decoded(data)) <= len(data)

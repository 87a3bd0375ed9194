import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.cli.output_option import is_plain

QUOTE = Path(__file__).parent.parent / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"
INSPECT = ["-m", "confcom", "inspect", str(QUOTE)]


@pytest.mark.parametrize(
    ("environ", "plain"),
    [
        ({"TERM": "dumb"}, True),
        ({"TERM": "unknown"}, True),
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, False),
    ],
)
def test_which_terminals_are_plain(environ, plain):
    assert is_plain(environ) is plain


@pytest.fixture
def shown(tmp_path):
    def call(arguments, environ):
        ours, theirs = pty.openpty()
        kept = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        with subprocess.Popen(
            [sys.executable, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": str(tmp_path), "HOME": str(tmp_path), **kept, **environ},
        ):
            os.close(theirs)
            said = b"".join(iter(lambda: read(ours), b""))
        os.close(ours)
        return said

    return call


def read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: every process has closed the terminal
        return b""


def test_other_terminals_get_control_sequences(shown):
    assert b"\x1b[" in shown(INSPECT, {"TERM": "xterm-256color"})


def test_plain_ones_get_none(shown):
    said = shown(INSPECT, {"TERM": "dumb"})
    assert b"\x1b" not in said
    assert b"\r" not in said.replace(b"\r\n", b"")
    assert len(said.splitlines()) > 2

"""On a terminal that says that it is dumb, or with NO_COLOR: no colour, and no cursor that moves."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.cli.terminals import is_plain

QUOTE = Path(__file__).parent.parent / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"
COMMANDS = {"inspect": ["inspect", str(QUOTE)], "enable": ["enable", "--simulated"]}
"""The first is coloured, the other has a display that moves."""


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
    """What a command writes to a terminal; there is neither kubectl nor helm."""

    def call(arguments, environ):
        ours, theirs = pty.openpty()
        kept = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        with subprocess.Popen(
            [sys.executable, "-m", "confcom", *arguments],
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
    except OSError:  # EIO: nobody has it open any more
        return b""


@pytest.mark.parametrize("command", COMMANDS)
def test_other_terminals_get_control_sequences(shown, command):
    assert b"\x1b[" in shown(COMMANDS[command], {"TERM": "xterm-256color"})


@pytest.mark.parametrize("command", COMMANDS)
def test_plain_ones_get_none(shown, command):
    said = shown(COMMANDS[command], {"TERM": "dumb"})
    assert b"\x1b" not in said
    assert b"\r" not in said.replace(b"\r\n", b"")
    assert len(said.splitlines()) > 2

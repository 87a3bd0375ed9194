"""On a terminal that says that it is dumb, or with NO_COLOR: no colour, and no cursor that moves."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

QUOTE = Path(__file__).parent.parent / "vectors" / "genuine-quotes" / "quote_pck_cert_chain.bin"
DUMB, COLOURED = {"TERM": "dumb"}, {"TERM": "xterm-256color"}
COMMANDS = {
    "inspect": ["inspect", str(QUOTE)],
    "verify": ["verify", str(QUOTE), "--root", "intel"],
    "enable": ["enable", "--simulated"],
    "help": ["--help"],
}
"""The first three are coloured, or have a display that moves."""


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


@pytest.mark.parametrize(
    ("command", "environ"),
    [("inspect", COLOURED), ("verify", COLOURED), ("enable", COLOURED), ("inspect", COLOURED | {"NO_COLOR": ""})],
)
def test_other_terminals_get_control_sequences(shown, command, environ):
    assert b"\x1b[" in shown(COMMANDS[command], environ)


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        *((command, DUMB) for command in COMMANDS),
        ("inspect", {"TERM": "unknown"}),
        ("enable", COLOURED | {"NO_COLOR": "1"}),
    ],
)
def test_plain_ones_get_none(shown, command, environ):
    said = shown(COMMANDS[command], environ)
    assert b"\x1b" not in said
    assert b"\r" not in said.replace(b"\r\n", b"")
    assert len(said.splitlines()) > 2

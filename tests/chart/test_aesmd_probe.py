"""The probe of aesmd, run with a real shell: it fails only on the helper's request for the restart of this aesmd."""

import os
import re
import socket
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from confcom.quote_helper.quoting.aesmd_backend import REQUEST_FILE, request_restart, withdraw_request
from confcom.quote_provider.aesmd_instance import AesmdInstance
from testkit.chart_golden import ROOT, golden
from testkit.chart_manifests import HELPER, containers, daemon

REFERENCE = ROOT / "docs" / "reference" / "quote-helper.md"


@pytest.fixture
def command():
    return containers(daemon(golden("hardware-aesmd"), HELPER))["aesmd"]["livenessProbe"]["exec"]["command"]


@pytest.fixture
def aesmd_socket(short_dir):
    """aesmd's socket, in a directory as the emptyDir is."""
    path = short_dir / "aesm.socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield path


@pytest.fixture
def passes(command, aesmd_socket):
    """Whether the probe passes."""

    def run():
        here = [word.replace("/var/run/aesmd", str(aesmd_socket.parent)) for word in command]
        assert here != command
        return subprocess.run(here, capture_output=True, check=False).returncode == 0

    return run


def test_the_helpers_request_fails_it_until_it_is_withdrawn(passes, aesmd_socket):
    assert passes()
    assert request_restart(aesmd_socket, AesmdInstance.at(aesmd_socket))
    assert not passes()
    withdraw_request(aesmd_socket)
    assert passes()


def bind_another(path):
    path.rename(path.with_name("old"))
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))


def name_another(path):
    path.with_name(REQUEST_FILE).write_text("1 2\n")


def make_it_old(path):
    old = time.time() - 180
    os.utime(path.with_name(REQUEST_FILE), (old, old))


@pytest.mark.parametrize("change", [bind_another, name_another, make_it_old, Path.unlink])
def test_a_request_that_is_not_for_this_aesmd_passes(passes, aesmd_socket, change):
    assert request_restart(aesmd_socket, AesmdInstance.at(aesmd_socket))
    change(aesmd_socket)
    assert passes()


def test_the_reference_has_this_probe(command):
    shown = re.search(r"    - \|\n((?:      .*\n)+)```", REFERENCE.read_text())
    assert textwrap.dedent(shown[1]).strip() == command[-1].strip()

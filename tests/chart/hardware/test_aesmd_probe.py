"""The probe of aesmd, run with a real shell: it fails only on the helper's request for the restart of this aesmd."""

import os
import re
import socket
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from confcom.quote_helper.quoting.restart_request import REQUEST_FILE, AesmdInstance, request_restart, withdraw_request
from testkit.chart_manifests import AESMD, HELPER, containers, daemon

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "quote-helper.md"


@pytest.fixture(scope="module")
def command(plain_render):
    return containers(daemon(plain_render(AESMD), HELPER))["aesmd"]["livenessProbe"]["exec"]["command"]


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


def request(path):
    assert request_restart(path, AesmdInstance.at(path))


def test_without_a_request_it_passes(passes):
    assert passes()


def test_the_helpers_request_fails_it_until_it_is_withdrawn(passes, aesmd_socket):
    request(aesmd_socket)
    assert not passes()
    withdraw_request(aesmd_socket)
    assert passes()


def test_the_request_means_nothing_to_the_next_aesmd(passes, aesmd_socket):
    request(aesmd_socket)
    aesmd_socket.rename(aesmd_socket.with_name("old"))
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(aesmd_socket))
        assert passes()


def test_a_request_that_names_another_passes(passes, aesmd_socket):
    aesmd_socket.with_name(REQUEST_FILE).write_text("1 2\n")
    assert passes()


def test_without_a_socket_a_request_passes(passes, aesmd_socket):
    request(aesmd_socket)
    aesmd_socket.unlink()
    assert passes()


def test_an_old_request_of_a_helper_that_is_gone_passes(passes, aesmd_socket):
    request(aesmd_socket)
    old = time.time() - 180
    os.utime(aesmd_socket.with_name(REQUEST_FILE), (old, old))
    assert passes()


def test_the_reference_has_this_probe(command):
    shown = re.search(r"    - \|\n((?:      .*\n)+)```", REFERENCE.read_text())
    assert textwrap.dedent(shown[1]).strip() == command[-1].strip()

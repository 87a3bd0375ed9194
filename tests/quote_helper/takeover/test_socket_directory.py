"""Directories that cannot take a socket, for real: mounted in a mount namespace that ends with the helper."""

import os
import shutil
import subprocess

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "mount"))), reason="needs root to mount"
)


@pytest.fixture
def directory(short_dir):
    path = short_dir / "aesm"
    path.mkdir()
    return path


def mounting(command):
    """Run the helper in a mount namespace of its own, after a mount."""
    return ["unshare", "--mount", "sh", "-ec", f'{command}; exec "$@"', "sh"]


def beside(helper, *command):
    """Run a command in the helper's mount namespace."""
    subprocess.run(["nsenter", f"--target={helper.process.pid}", "--mount", *command], check=True)


def test_a_full_then_read_only_directory_is_waited_for(start_helper, directory):
    helper = start_helper(wrapper=mounting(f"mount -t tmpfs -o nr_inodes=1 none {directory}"))
    helper.wait_until(lambda: helper.get("/readyz")[0] == 503)
    helper.wait_until(lambda: helper.metric('confcom_quote_helper_provider_state{state="ready"}') == 1)
    assert not helper.ready
    beside(helper, "mount", "-o", "remount,nr_inodes=16", str(directory))
    helper.wait_ready()
    beside(helper, "mount", "-t", "tmpfs", "-o", "ro", "none", str(directory))
    helper.wait_until(lambda: not helper.ready)
    beside(helper, "umount", str(directory))
    helper.wait_ready()
    assert helper.stop() == ExitCode.OK


def test_a_read_only_directory_is_an_error_at_the_start(start_helper, directory):
    helper = start_helper(wrapper=mounting(f"mount -t tmpfs -o ro none {directory}"))
    assert helper.process.wait(30) == ExitCode.UNAVAILABLE


def test_a_directory_removed_where_it_was_mounted_from_is_told(start_helper, short_dir, directory):
    origin = short_dir / "origin"
    origin.mkdir()
    helper = start_helper(wrapper=mounting(f"mount --bind {origin} {directory}")).wait_ready()
    AesmClient(origin / "aesm.socket").init_quote()
    shutil.rmtree(origin)
    helper.wait_until(lambda: helper.unready_for("mounted-directory-removed"))
    assert helper.get("/livez")[0] == 200
    assert helper.stop() == ExitCode.OK

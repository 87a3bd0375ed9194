"""However a program with a verifier ends, its workers end with it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.collateral import INTEL_PCS
from confcom.service import QuoteVerifier
from confcom.verify import SgxPolicy
from testkit.worker_processes import Watched, workers_of

PROGRAM = """
import asyncio
import signal
import sys

from confcom.collateral import INTEL_PCS
from confcom.service import QuoteVerifier
from confcom.verify import INTEL, SgxPolicy


async def main():
    async with QuoteVerifier(SgxPolicy(mr_enclave=bytes(32)), INTEL_PCS, directory=sys.argv[1]):
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(tmp_path, number):
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        assert parent.stdout.readline() == b"ready\n"
        workers = workers_of(parent.pid)
        assert len(workers) == 2
        watched = Watched(workers)
        os.kill(parent.pid, number)
        parent.wait(20)
    assert watched.left(20) == []


def ignored(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(re.search(r"^SigIgn:\t(\w+)$", status, re.MULTILINE)[1], 16)
    return {number for number in signal.Signals if mask >> number - 1 & 1}


async def test_signals_to_the_group_leave_the_workers_to_their_parent(tmp_path):
    """A service that ends in order still verifies what it accepted."""
    async with QuoteVerifier(SgxPolicy(mr_enclave=bytes(32)), INTEL_PCS, directory=tmp_path):
        workers = workers_of(os.getpid())
        assert len(workers) == 2
        assert all({signal.SIGINT, signal.SIGTERM} <= ignored(pid) for pid in workers)

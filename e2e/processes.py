"""Processes that cases and benchmarks start beside the cluster."""

from __future__ import annotations

import os
import signal
import subprocess


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process that may have ended by SIGTERM, and by SIGKILL if it runs on for so long."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End nsenter and its child, if they still run: both are of a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()

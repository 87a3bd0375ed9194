"""Processes that cases and benchmarks start beside the cluster."""

from __future__ import annotations

import subprocess


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process that may have ended by SIGTERM, and by SIGKILL if it runs on for so long."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

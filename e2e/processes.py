"""Processes that cases and benchmarks start beside the cluster."""

from __future__ import annotations

import subprocess


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a process by SIGTERM, and by SIGKILL if it runs on.

    Args:
        process: it may have ended already.
        seconds: how long it has for an orderly end.
    """
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

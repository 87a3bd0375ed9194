"""kubectl as a process that runs during a case, and ends with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from e2e.cluster import Cluster
from e2e.waiting import end

END_SECONDS = 10.0
"""Seconds for the process to end after SIGTERM."""


@contextmanager
def beside(
    cluster: Cluster, *arguments: str, output: IO[bytes] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run kubectl as the administrator, unless the arguments name another user.

    kubectl enters the cluster's network namespace only, so it is our child and gets our signals.
    """
    command = ["nsenter", f"--target={cluster.pid}", "--net", "--", str(cluster.plan.tools.path("kubectl")), *arguments]
    environment = {**os.environ, **cluster.environment}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output)
    try:
        yield process
    finally:
        end(process, END_SECONDS)

"""A watch of the API whose changes the ledger judges as they come."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.churn.ledger import Change, Ledger
from e2e.cluster import Cluster
from e2e.processes import end_group

WATCH_SECONDS = 3600
"""For which the API server is asked to keep a watch: longer than any case."""


@contextmanager
def telling(ledger: Ledger, cluster: Cluster, path: str) -> Iterator[None]:
    """Pass changes on as they come; nothing is kept here."""
    url = f"{path}?watch=1&timeoutSeconds={WATCH_SECONDS}"
    process = subprocess.Popen(
        cluster.node.entering(["kubectl", "get", "--raw", url]),
        env={**os.environ, **cluster.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # nsenter's child must end with it
    )
    reader = threading.Thread(target=_read, args=(process, ledger))
    reader.start()
    try:
        yield
    finally:
        end_group(process)
        reader.join()


def _read(process: subprocess.Popen[str], ledger: Ledger) -> None:
    if process.stdout is None or process.stderr is None:
        raise ValueError("the process was started without pipes")
    with process.stdout, process.stderr:
        for line in process.stdout:
            event = json.loads(line)
            ledger.tell(Change(time.monotonic(), event["type"], event["object"]))
        ledger.end(process.stderr.read().strip())

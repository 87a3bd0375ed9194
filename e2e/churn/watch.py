"""A watch of the API whose changes the ledger judges as they come."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from e2e.beside import beside
from e2e.churn.ledger import Change, Ledger
from e2e.cluster import Cluster

WATCH_SECONDS = 3600
"""For which the API server is asked to keep a watch: longer than any case."""


@contextmanager
def telling(ledger: Ledger, cluster: Cluster, path: str) -> Iterator[None]:
    """Pass changes on as they come; nothing is kept here."""
    url = f"{path}?watch=1&timeoutSeconds={WATCH_SECONDS}"
    with beside(cluster, "get", "--raw", url, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, ledger))
        reader.start()
        yield
    reader.join()


def _read(output: IO[bytes], ledger: Ledger) -> None:
    with output:
        for line in output:
            event = json.loads(line)
            ledger.tell(Change(time.monotonic(), event["type"], event["object"]))
    ledger.end("kubectl has ended")

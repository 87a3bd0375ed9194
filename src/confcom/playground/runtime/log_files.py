"""The containers' logs: one file per container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from confcom.playground.api.errors import NotFoundError
from confcom.playground.api.objects import Pod
from confcom.playground.layout import Layout

MAX_LOG_BYTES = 1024 * 1024
"""At most this much of a log's end is returned: more than a user reads, and small enough for one gRPC message."""


def log_path(layout: Layout, pod: Pod, container: str) -> Path:
    """Return the path of a container's log: POD.log, or POD_CONTAINER.log if the pod has several containers."""
    name = pod.name if len(pod.containers) == 1 else f"{pod.name}_{container}"
    return layout.logs / f"{name}.log"


def read_log(layout: Layout, pod: Pod, container: str | None) -> str:
    """Return the end of a container's log, or "" if the container has not started.

    Raises:
        NotFoundError: no such container, or the pod has several and none is named.
    """
    names = [one.spec.name for one in pod.containers]
    if container is None and len(names) > 1:
        raise NotFoundError(
            f"a container name must be specified for pod {pod.name}, choose one of: [{' '.join(names)}]",
            error_code="container-not-named",
            remedy="name it with -c",
        )
    container = container or names[0]
    if container not in names:
        raise NotFoundError(
            f"container {container} is not valid for pod {pod.name}",
            error_code="container-not-found",
            remedy=f"choose one of: {' '.join(names)}",
        )
    with contextlib.suppress(FileNotFoundError), log_path(layout, pod, container).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - MAX_LOG_BYTES))
        return log.read(MAX_LOG_BYTES).decode(errors="replace")
    return ""

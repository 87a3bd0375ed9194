"""The report of the machine on which this process runs, or of the node whose root file system it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from confcom.client.address import EXCHANGE_SECONDS, aesm_socket_path
from confcom.hardware_report.collect import Node, QuoteReader, collect, query_rpm
from confcom.hardware_report.devices import Caller
from confcom.hardware_report.document.report import HardwareReport
from confcom.hardware_report.node_files import NodeFiles

HOST = Path("/")
SOCKET_BELOW_ROOT = "run/aesmd/aesm.socket"
"""Where /var/run is a link, it is an absolute one, which would lead out of another root."""


def local_report(
    environ: Mapping[str, str],
    *,
    host_root: Path = HOST,
    socket: Path | None = None,
    call_seconds: float = EXCHANGE_SECONDS,
    quote: QuoteReader | None = None,
) -> HardwareReport:
    """Make the report.

    Args:
        environ: the environment of this process.
        host_root: the node's root file system.
        socket: the AESM socket; None: the usual one, below `host_root` if that is another one.
        call_seconds: the time limit of one call of the AESM service.
        quote: reads the section of a quote; None: there is none.
    """
    default = aesm_socket_path(environ) if host_root == HOST else host_root / SOCKET_BELOW_ROOT
    node = Node(
        NodeFiles(host_root),
        socket or default,
        Caller(os.getuid(), frozenset({os.getgid(), *os.getgroups()})),
        query_rpm=query_rpm if host_root == HOST else None,
        call_seconds=call_seconds,
    )
    return collect(node, quote)

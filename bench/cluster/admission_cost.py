"""What the add-on's policies cost the creation of a Pod, with EPC and without: blocks in turn, one client.

Usage: python -m bench.cluster.admission_cost [--blocks N] [--pods N]

An API server of the benchmark's own has the chart. One namespace is an ordinary one; the policies leave out the other
one, the release's own. So nothing is installed or removed between blocks. The Pods are stored; nobody schedules them.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.status.filling import install_chart
from e2e.plain_api_server import PlainApiServer, serving
from e2e.plain_controller import EPC, SYSTEM
from e2e.waiting import until

MILLI = 1000.0
NAMESPACES = ("tenants", SYSTEM)
"""An ordinary one, and the release's own, which all policies leave out."""
LIMITS = {"plain": {}, "EPC": {"sgx.intel.com/epc": "10Mi"}}
TAIL = 0.99


@dataclass(slots=True)
class Row:
    """One kind of Pod in one namespace.

    Args:
        namespace: where.
        kind: of the Pod.
        seconds: of each creation.
        processor: seconds of the API server's CPU in all blocks.
    """

    namespace: str
    kind: str
    seconds: list[float] = field(default_factory=list)
    processor: float = 0.0


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="bench.cluster.admission_cost", description="Cost of creating a Pod.")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each row")
    parser.add_argument("--pods", type=int, default=250, help="Pods of a block")
    asked = parser.parse_args(arguments)
    rows = [Row(namespace, kind) for kind in LIMITS for namespace in NAMESPACES]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), niceness=0) as server:
        install_chart(server)
        server.kubectl("create", "namespace", NAMESPACES[0])
        with proxy(server) as port:
            _wait_for_policies(port)
            for block in range(asked.blocks):
                for row in rows if block % 2 == 0 else reversed(rows):  # what drifts is the same for both
                    _block(row, port, asked.pods, server.pid("apiserver"))
    for row in rows:
        sys.stdout.write(f"{_shown(row)}\n")
    return 0


@contextlib.contextmanager
def proxy(server: PlainApiServer) -> Iterator[int]:
    """Have kubectl's proxy, which knows how to sign in; yields its port."""
    command = [str(server.tools.path("kubectl")), f"--kubeconfig={server.kubeconfig()}", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        try:
            yield int(re.findall(r":(\d+)$", serving.stdout.readline().strip())[0])
        finally:
            serving.terminate()


def _block(row: Row, port: int, pods: int, server: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port)
    path = f"/api/v1/namespaces/{row.namespace}/pods"
    before = _processor(server)
    for _ in range(pods):
        began = time.perf_counter()
        _create(client, path, row.kind)
        row.seconds.append(time.perf_counter() - began)
    row.processor += _processor(server) - before
    client.request("DELETE", f"{path}?labelSelector=bench%3Dcost")
    client.getresponse().read()


def _create(client: http.client.HTTPConnection, path: str, kind: str) -> str:
    """Create a Pod, and return it as it is stored."""
    container = {"name": "app", "image": "registry.example.com/app:1.0", "resources": {"limits": LIMITS[kind]}}
    spec = {"schedulerName": "nobody", "terminationGracePeriodSeconds": 0, "containers": [container]}
    body = {"metadata": {"generateName": "cost-", "labels": {"bench": "cost"}}, "spec": spec}
    client.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = client.getresponse()
    text = answer.read().decode()
    if answer.status != http.client.CREATED:
        sys.exit(f"{path}: {text}")
    return text


def _wait_for_policies(port: int) -> None:
    """Wait until Pods are changed in the one namespace, and not in the other."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    path, left_out = (f"/api/v1/namespaces/{namespace}/pods?dryRun=All" for namespace in NAMESPACES)
    until(lambda: EPC in _create(client, path, "EPC"), "the policies are in force")
    until(lambda: EPC not in _create(client, left_out, "EPC"), "the other namespace is left out")


def _processor(process: int) -> float:
    if not process:
        return 0.0
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _shown(row: Row) -> str:
    middle = statistics.median(row.seconds) * MILLI
    tail = sorted(row.seconds)[int(len(row.seconds) * TAIL)] * MILLI
    each = row.processor / len(row.seconds) * MILLI
    return f"{row.kind:6} {row.namespace:24} p50 {middle:6.2f} ms  p99 {tail:6.2f} ms  CPU {each:6.2f} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

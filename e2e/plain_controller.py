"""The controller as a process beside a plain API server; one HTTP server stands in for all plugins."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from confcom.errors import UnavailableError
from e2e.add_on import CONTROLLER, EPC, RELEASE, ROOT, SYSTEM
from e2e.plain_api_server import NICE, PlainApiServer
from e2e.waiting import until

USER = f"system:serviceaccount:{SYSTEM}:{CONTROLLER}"
LABELS = {"confcom.internal/simulated-sgx": "true"}
PLUGIN_LABELS = {
    "app.kubernetes.io/name": "confcom",
    "app.kubernetes.io/component": "device-plugin",
    "app.kubernetes.io/instance": RELEASE,
}
MERGE = "application/merge-patch+json"


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.51.100.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    raise UnavailableError("this machine has no address that a Pod could have")


def inventory(mib: int, *, kind: str = "capacity") -> bytes:
    accounting = {"kind": kind, "resource": EPC, "advertised_mib": mib, "held_back_mib": 0, "choice": "x", "reason": ""}
    document = {"version": 1, "epc": {"mib": mib}, "accounting": accounting, "resources": [{"name": EPC}]}
    return json.dumps(document).encode()


class Plugins:
    """One server that stands in for all plugins; each plugin has the same answer."""

    def __init__(self, port: int = 0) -> None:
        plugins = self
        self.document = inventory(64)
        self.pages: dict[str, Iterator[bytes]] = {}
        """By path: the documents that this server answers in turn; `document` answers all other paths."""
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # http.server's name
                plugins.asked += 1
                turns = plugins.pages.get(self.path)
                document = next(turns) if turns else plugins.document
                self.send_response(200)
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        self.address = own_address()
        self._server = ThreadingHTTPServer((self.address, port), Handler)
        self.port = self._server.server_address[1]

    @contextlib.contextmanager
    def answering(self) -> Iterator[Plugins]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


class Objects:
    def __init__(self, server: PlainApiServer) -> None:
        self.client = server.client()

    def send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:  # noqa: ANN401 # JSON
        content = None if body is None else json.dumps(body)
        answer = self.client.request(method, path, content=content, headers={"Content-Type": content_type})
        if answer.status_code >= httpx2.codes.BAD_REQUEST:
            raise UnavailableError(f"{method} {path}: {answer.status_code}", why=answer.text)
        return answer.json()

    def add_node(self, name: str, status: dict[str, Any] | None = None) -> None:
        self.send("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": LABELS}})
        amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        self.set_status(name, {"capacity": amounts, "allocatable": amounts} | (status or {}))

    def set_status(self, name: str, status: dict[str, Any]) -> None:
        self.send("PATCH", f"/api/v1/nodes/{name}/status?fieldManager=kubelet", {"status": status}, MERGE)

    def amounts(self, name: str) -> tuple[str | None, str | None]:
        status = self.send("GET", f"/api/v1/nodes/{name}")["status"]
        return status["capacity"].get(EPC), status["allocatable"].get(EPC)

    def add_pod(
        self, name: str, node: str, *, namespace: str = "default", mib: int = 0, ip: str = "", plugin: bool = False
    ) -> None:
        limits = {EPC: str(mib)} if mib else {}
        metadata: dict[str, Any] = {"name": name, "namespace": namespace}
        if plugin:
            owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "p", "uid": "u", "controller": True}
            metadata |= {"labels": PLUGIN_LABELS, "ownerReferences": [owner]}
        container = {"name": "c", "image": "registry.test/none", "resources": {"limits": limits}}
        spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
        pods = f"/api/v1/namespaces/{namespace}/pods"
        self.send("POST", pods, {"metadata": metadata, "spec": spec})
        status = {"phase": "Running", "startTime": "2026-11-28T10:00:00Z"} | (
            {"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}
        )
        self.send("PATCH", f"{pods}/{name}/status", {"status": status}, MERGE)

    def delete_pod(self, name: str, namespace: str = "default") -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        self.send("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


def install(server: PlainApiServer, *values: str) -> None:
    chosen = ["image.registry=registry.test", "simulated.enabled=true", "admission.mutate=on", *values]
    shown = [f"--show-only=templates/{name}.yaml" for name in ("controller", "node-capacity-validating-policy")]
    rendered = server.helm("template", *shown, *(f"--set={value}" for value in chosen))
    with contextlib.suppress(UnavailableError):
        server.kubectl("create", "namespace", SYSTEM)
    server.kubectl("apply", "--filename=-", stdin=rendered)


class Controller:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        found = until(lambda: re.search(r'"address": "(?:http://)?([0-9.:]+)"', log.read_text()), "it answers probes")
        self.probes = f"http://{found[1]}" if found else ""

    def is_ready(self) -> bool:
        return httpx2.get(f"{self.probes}/readyz", trust_env=False).status_code == httpx2.codes.OK

    def metric(self, name: str) -> float:
        text = httpx2.get(f"{self.probes}/metrics", trust_env=False).text
        found = re.findall(rf"^confcom_controller_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))


@contextlib.contextmanager
def controlling(server: PlainApiServer, port: int, *flags: str) -> Iterator[Controller]:
    """Run the controller with the rights of its ServiceAccount."""
    log = server.folder / "controller.log"
    log.write_bytes(b"")
    command: Sequence[str] = [
        *NICE,
        sys.executable,
        "-m",
        "confcom.controller",
        f"--kubeconfig={server.kubeconfig(USER)}",
        f"--installation={SYSTEM}/{RELEASE}",
        f"--plugin-port={port}",
        "--probe-address=127.0.0.1:0",
        *flags,
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HOSTNAME": "controller"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        yield Controller(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()

"""`python -m bench.admission`: what the chart's policies add to requests that are as large as can be.

A real API server answers dry runs in two namespaces: in one, a mutating and a validating policy with trivial expressions are
bound, in the other the chart's. The requests take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import yaml

from bench.report import Section, publish, say_as
from bench.worst_objects import LARGEST, WORST
from e2e.plain_api_server import PlainApiServer, serving

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "simulated.enabled=true",
    "image.registry=registry.test",
    "admission.mutate=on",
    "devicePlugin.apiServer=1.36",
)
OURS, TRIVIAL = "ours", "trivial"
GROUP = "admissionregistration.k8s.io/v1"
RULES = [
    {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*"], "scope": "Namespaced"}
    for group in ("", "apps", "batch")
]
CHANGE = """
[JSONPatch{op: "add", path: object.kind == "Pod" ? "/spec/containers/0/tty" : "/metadata/generation", value: object.kind == "Pod" ? dyn(true) : dyn(1)}]
"""
"""Of a field as deep as limits."""
PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
}
IN_FORCE_SECONDS = 15.0
ROUNDS = 3

say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.admission", description=__doc__)
    parser.add_argument(
        "--kubernetes", default="kubernetes", metavar="FOLDER", help="of e2e/tools (default: %(default)s)"
    )
    parser.add_argument("--chart", type=Path, default=ROOT / "charts" / "confcom", help="default: this checkout's")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument("--only", default="", help="objects whose name has this in it")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    options = parser.parse_args(arguments)
    section = Section("Requests of 3 MiB", [OURS, TRIVIAL])
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), kubernetes=options.kubernetes) as server:
        install(server, options.chart)
        with server.client() as client:
            for worst in (one for one in WORST if options.only in one.name):
                for size in (LARGEST // 2, LARGEST):
                    title = f"{worst.name}, {size / (1 << 20):.1f} MiB"
                    body = worst.body(size)
                    kind = json.loads(body)["kind"]
                    for _ in range(options.rounds):
                        for side in (TRIVIAL, OURS):
                            seconds, said = ask(client, PATHS[kind].format(side), body)
                            section.add(side, title, "s", seconds)
                    best = {side: min(values) for side, values in section.rows[title].values.items()}
                    say(
                        f"{title}: {best[TRIVIAL]:.3f} s, and {best[OURS] - best[TRIVIAL]:+.3f} s with ours; {said[:160]}"
                    )
    publish("admission", [section], options.output)
    return 0


def ask(client: httpx2.Client, path: str, body: bytes) -> tuple[float, str]:
    """How long a dry run takes, and what the API server says."""
    begun = time.monotonic()
    answer = client.post(path, params={"dryRun": "All"}, content=body, headers={"Content-Type": "application/json"})
    seconds = time.monotonic() - begun
    return seconds, f"{answer.status_code} {answer.text[:300]}" if answer.status_code >= 300 else str(
        answer.status_code
    )


def install(server: PlainApiServer, chart: Path) -> None:
    """Have both namespaces, and in each its policies only."""
    for side in (OURS, TRIVIAL):
        server.kubectl("create", "namespace", side)
    command = [str(server.tools.path("helm")), "template", "confcom", str(chart), "--namespace=confcom-system"]
    command += [f"--set={one}" for one in SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    made = [one for one in yaml.safe_load_all(done.stdout) if one and "AdmissionPolicy" in one["kind"]]
    for one in made:
        if one["kind"].endswith("Binding"):
            bind(one, OURS)
    for manifest in (*made, *trivial()):
        server.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    time.sleep(IN_FORCE_SECONDS)


def bind(binding: dict[str, Any], namespace: str) -> None:
    """Have a policy apply to one namespace only."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding["spec"]["matchResources"] = {"namespaceSelector": selector}


def trivial() -> Sequence[dict[str, Any]]:
    """A policy that sets a label, one that agrees, and their bindings."""
    matched = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": RULES}}
    mutating = matched | {
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": CHANGE}}],
    }
    made = []
    for kind, spec in (
        ("MutatingAdmissionPolicy", mutating),
        ("ValidatingAdmissionPolicy", matched | {"validations": [{"expression": "object.metadata.name != ''"}]}),
    ):
        head = {"apiVersion": GROUP, "metadata": {"name": TRIVIAL}}
        binding = {**head, "kind": f"{kind}Binding", "spec": {"policyName": TRIVIAL}}
        if kind.startswith("Validating"):
            binding["spec"]["validationActions"] = ["Deny"]
        bind(binding, TRIVIAL)
        made += [{**head, "kind": kind, "spec": spec}, binding]
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

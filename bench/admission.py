"""`python -m bench.admission`: time that the chart's policies add to the largest possible requests.

A real API server answers dry runs in two namespaces: one has two policies with trivial expressions, the other
has the chart's policies. The namespaces take turns, and the quickest request of each namespace counts.
"""

from __future__ import annotations

import argparse
import json
import operator
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import yaml

from bench.load import WrongAnswerError
from bench.machine import cpu_seconds
from bench.report import Goal, Measured, Section, command_line, in_turn, run, say
from bench.worst_objects import LARGEST, WORST, Worst
from e2e.cluster.tools import versions
from e2e.plain_api_server import PlainApiServer, serving

SETTINGS = (
    "simulated.enabled=true",
    "image.registry=registry.test",
    "admission.mutate=on",
    "devicePlugin.apiServer=1.36",
)
OURS, TRIVIAL = "ours", "trivial"
ADDED = "added"
COSTLIEST = "the most that is added to one request"
GOALS = {COSTLIEST: Goal(0.1)}
GROUP = "admissionregistration.k8s.io/v1"
RULES = [
    {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*"], "scope": "Namespaced"}
    for group in ("", "apps", "batch")
]
CHANGE = (
    '[JSONPatch{op: "add", path: object.kind == "Pod" ? "/spec/containers/0/tty" : "/metadata/generation",'
    ' value: object.kind == "Pod" ? dyn(true) : dyn(1)}]'
)
"""A trivial mutation of a field that is nested as deeply as a container's limits."""
IN_FORCE_SECONDS = 15.0
SMALLEST_PART, ANSWER_SECONDS = 16, 6.0
"""Answer time for the largest objects. An API server's own time grows with the square of some objects' size,
up to a time-out of 34 s, which allows no comparison; smaller objects then take about this time."""
SOURCE = "expression '"
"""Text before a policy's source in an API server's message about a failing expression."""


def measure(options: argparse.Namespace) -> Measured:
    chosen = tuple(one for one in WORST if options.only in one.name)
    section = Section(f"Kubernetes {options.kubernetes}, requests of up to {options.size} bytes", [ADDED], GOALS)
    folder = tempfile.TemporaryDirectory()
    with folder, serving(Path(folder.name), niceness=0, kubernetes=versions()[options.kubernetes]) as server:
        install(server)
        for worst in chosen:
            measure_object(section, server, worst, options.size, options.rounds)
    if chosen == WORST:
        section.add(ADDED, COSTLIEST, "s", max(section.rows[worst.name].values[ADDED][0] for worst in chosen))
    return [section], {}


def measure_object(section: Section, server: PlainApiServer, worst: Worst, largest: int, rounds: int) -> None:
    """Add one object's rows: time that our policies add, time with trivial policies, and both CPU times."""
    took: dict[str, list[tuple[float, float]]] = {OURS: [], TRIVIAL: []}
    with server.client() as client:
        size = largest // SMALLEST_PART
        while size < largest and ask(client, TRIVIAL, worst.body(size)) < ANSWER_SECONDS / 4:
            size *= 2
        body = worst.body(size)
        for number in range(rounds):
            for side in in_turn((TRIVIAL, OURS), number):
                cpu = cpu_seconds(server.pid)
                took[side].append((ask(client, side, body), cpu_seconds(server.pid) - cpu))
    (with_ours, cpu), (with_trivial, other_cpu) = (tuple(map(min, zip(*took[one], strict=True))) for one in took)
    say(f"{worst.name}, {size} bytes: {with_ours - with_trivial:+.3f} s beside {with_trivial:.3f} s")
    section.add(ADDED, worst.name, "s", with_ours - with_trivial)
    section.add(ADDED, f"{worst.name}: with trivial policies", "s", with_trivial)
    section.add(ADDED, f"{worst.name}: CPU that is added", "s", cpu - other_cpu)
    section.add(ADDED, f"{worst.name}: size", "bytes", size)


def ask(client: httpx2.Client, namespace: str, body: bytes) -> float:
    """Time of a dry run. An answer that shows a policy's source is a failure."""
    version, kind = operator.itemgetter("apiVersion", "kind")(json.loads(body))
    path = f"/{'api' if version == 'v1' else 'apis'}/{version}/namespaces/{namespace}/{kind.lower()}s"
    begun = time.monotonic()
    answer = client.post(path, params={"dryRun": "All"}, content=body, headers={"Content-Type": "application/json"})
    seconds = time.monotonic() - begun
    if answer.is_error and SOURCE in answer.text:
        raise WrongAnswerError(answer.text[:500])
    return seconds


def install(server: PlainApiServer) -> None:
    for side in (OURS, TRIVIAL):
        server.kubectl("create", "namespace", side)
    rendered = server.helm("template", *(f"--set={one}" for one in SETTINGS))
    made = [one for one in yaml.safe_load_all(rendered) if one and "AdmissionPolicy" in one["kind"]]
    for one in made:
        if one["kind"].endswith("Binding"):
            bind(one, OURS)
    for manifest in (*made, *trivial()):
        server.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    time.sleep(IN_FORCE_SECONDS)


def bind(binding: dict[str, Any], namespace: str) -> None:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding["spec"]["matchResources"] = {"namespaceSelector": selector}


def trivial() -> list[dict[str, Any]]:
    matched: dict[str, Any] = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": RULES}}
    mutating = matched | {
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": CHANGE}}],
    }
    validating = matched | {"validations": [{"expression": "object.metadata.name != ''"}]}
    made: list[dict[str, Any]] = []
    for kind, spec, actions in (
        ("MutatingAdmissionPolicy", mutating, {}),
        ("ValidatingAdmissionPolicy", validating, {"validationActions": ["Deny"]}),
    ):
        head = {"apiVersion": GROUP, "metadata": {"name": TRIVIAL}}
        binding = {**head, "kind": f"{kind}Binding", "spec": {"policyName": TRIVIAL, **actions}}
        bind(binding, TRIVIAL)
        made += [{**head, "kind": kind, "spec": spec}, binding]
    return made


if __name__ == "__main__":
    parser = command_line("bench.admission", __doc__)
    known = list(versions())
    parser.add_argument("--kubernetes", choices=known, default=known[0], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=LARGEST, metavar="BYTES", help="default: %(default)s, the largest")
    parser.add_argument("--only", default="", metavar="TEXT", help="objects whose name has this in it")
    sys.exit(run(parser, measure))

"""All ways to request EPC, on a real API server with the add-on's policies; EPC must be counted exactly."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from e2e import add_on
from e2e.admission.cases import apply, check, check_containers, create, dry_run
from e2e.admission.pattern import (
    BUDGET,
    BYTES,
    ENCLAVE,
    MIB,
    PROVIDER,
    PROVISION,
    SIMULATED_MIB,
    Made,
    Pattern,
    admitted,
    app,
    container,
    epc,
    pod,
    template,
)
from e2e.admission.patterns import BESIDE_HARDWARE, PATTERNS
from e2e.cluster import Cluster
from e2e.tenants import Tenant
from e2e.waiting import until

OPT_OUT = "confcom.internal/epc-names"
"""Label of a namespace; with the value `unchanged`, the policies rewrite no resource names there."""
POLICIES = ("epc-names-mutating-policy", "pods-validating-policy", "templates-warning-policy")
TEMPLATES = ("Job", "CronJob", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController")
NOBODY = {"schedulerName": "nobody"}
"""A field of a Pod; the Pod is stored but never runs."""
ORDERS = 10
"""How often one case makes the API server choose a new random order of its mutating policies."""
LARGE = 50
"""Number of containers of a large Pod, and of variables in each container."""


@pytest.fixture(scope="module")
def trusted_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that may ask for the provision device, of a cluster with the add-on and its policies."""
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    with cluster.new_namespace("trusted") as name:
        add_on.install(cluster, settings=[f"provision.namespaces[0]={name}"])
        tenant = Tenant(cluster, name)
        until(lambda: is_rewritten(tenant, {BYTES: "1Mi"}), "the policy is in force")
        until(lambda: dry_run(tenant, app({MIB: "1Mi"})).made == {}, "the other one, too")
        yield name


@pytest.fixture(scope="module")
def asking_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for dry runs, which leave nothing in it."""
    with cluster.new_namespace("asking") as name:
        yield name


@pytest.fixture
def asking(cluster: Cluster, asking_namespace: str) -> Tenant:
    return Tenant(cluster, asking_namespace)


@pytest.fixture(autouse=True)
def trusted(cluster: Cluster, trusted_namespace: str, asking: Tenant) -> Tenant:
    """The trusted namespace, when an earlier case's extra policies are no longer in force."""
    asks = template("Job", app({BYTES: "10Mi", PROVISION: 1}))
    until(lambda: len(dry_run(asking, asks).warnings) == 1, "only the release's validating policies are in force")
    annotated = pod(container("app", {BYTES: "10Mi"}), annotations={PROVIDER: "app"})
    until(lambda: dry_run(asking, annotated).made, "only the release's mutating policy is in force")
    return Tenant(cluster, trusted_namespace)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_pattern(asking: Tenant, trusted: Tenant, pattern: Pattern) -> None:
    """An admitted Pod is admitted again as it is."""
    asking = trusted if pattern.trusted else asking
    made = check(asking, pattern)
    if pattern.made:
        again = {**pattern.pod, "metadata": {**made["metadata"], "uid": None}, "spec": made["spec"]}
        check_containers(dry_run(asking, again).made, pattern.made)


def test_names_of_simulated_nodes_beside_hardware(cluster: Cluster, asking: Tenant) -> None:
    with rendered(cluster, "simulated.besideHardware=true", "quoteHelper.enabled=false"):
        until(lambda: is_rewritten(asking, {SIMULATED_MIB: 10}), "the policy is in force")
        until(lambda: dry_run(asking, BESIDE_HARDWARE[-1].pod).said, "the other one, too")
        for pattern in BESIDE_HARDWARE:
            check(asking, pattern)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_is_warned_of_what_its_pods_meet(asking: Tenant, trusted: Tenant, kind: str) -> None:
    answer = dry_run(asking, template(kind, app({BYTES: "10Mi", PROVISION: 1})))
    (warning,) = answer.warnings
    assert f"Pods will be refused: container app asks for {PROVISION}" in warning
    spec = answer.made["spec"]
    made = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]
    assert made["spec"]["containers"][0]["resources"]["limits"] == {BYTES: "10Mi", PROVISION: "1"}
    assert "env" not in made["spec"]["containers"][0]
    assert dry_run(trusted, template(kind, app({BYTES: "10Mi", PROVISION: 1}))).warnings == []

    # If Kubernetes itself refuses a Pod, our policies print no warning.
    ours = [one for one in PATTERNS if one.warned or one.refused.startswith(("container", "For", "another", "already"))]
    for pattern in ours:
        (warning,) = dry_run(asking, template(kind, pattern.pod)).warnings
        assert (pattern.warned or pattern.refused) in warning
        assert ("Pods will be refused: " in warning) is not pattern.warned


@pytest.mark.parametrize(("value", "made"), [("false", True), ("true", False)])
def test_enclaves_without_epc_may_be_refused(cluster: Cluster, asking: Tenant, value: str, made: bool) -> None:
    with rendered(cluster, f"admission.requireEpc={value}", "provision.policy=false"):
        until(lambda: bool(dry_run(asking, app({ENCLAVE: 1})).made) is made, "the policy is in force")
        assert dry_run(asking, app({MIB: 1, ENCLAVE: 1})).made


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")], ids=["by the client", "by the server"])
@pytest.mark.parametrize("limits", [{BYTES: "10Mi"}, {BYTES: 5242881}, {BYTES: "10Mi", MIB: 70}, {MIB: 10}], ids=str)
def test_a_pod_is_applied_again(tenant: Tenant, limits: dict[str, object], how: tuple[str, ...]) -> None:
    manifest = pod(container("app", limits, env={BUDGET: "3", "OTHER": "x"}), **NOBODY)  # the amount replaces 3
    assert apply(tenant, manifest, *how).returncode == 0
    before = tenant.get("probe")["spec"]
    again = apply(tenant, manifest, *how)
    assert again.returncode == 0, again.stderr
    differing = tenant.kubectl("diff", *how[:1], "--filename=-", input=json.dumps(manifest), check=False)
    assert (differing.returncode, differing.stdout) == (0, "")
    labelled = {**manifest, "metadata": {**manifest["metadata"], "labels": {"team": "a"}}}
    assert apply(tenant, labelled, *how).returncode == 0
    found = tenant.get("probe")
    assert (found["spec"], found["metadata"]["labels"]) == (before, {"team": "a"})


def test_pods_from_before_the_policy_can_be_changed(tenant: Tenant) -> None:
    tenant.cluster.kubectl("label", "namespace", tenant.namespace, f"{OPT_OUT}=unchanged")
    until(lambda: not is_rewritten(tenant, {BYTES: "1Mi"}), "the namespace is left out")
    manifest = pod(container("app", {BYTES: "10Mi"}), **NOBODY)
    assert apply(tenant, manifest).returncode == 0
    check_containers(tenant.get("probe"), {"app": Made({BYTES: "10Mi"})})
    tenant.cluster.kubectl("label", "namespace", tenant.namespace, f"{OPT_OUT}-")
    until(lambda: is_rewritten(tenant, {BYTES: "1Mi"}), "the namespace is not left out")
    assert apply(tenant, manifest).returncode == 0
    tenant.kubectl("label", "pod", "probe", "team=a")
    check_containers(tenant.get("probe"), {"app": Made({BYTES: "10Mi"})})


def test_our_own_namespace_is_left_out(cluster: Cluster) -> None:
    ours = dry_run(Tenant(cluster, add_on.SYSTEM), app({BYTES: "10Mi"}))
    check_containers(ours.made, {"app": Made({BYTES: "10Mi"})})


@pytest.mark.timeout(300)
def test_every_order_with_a_policy_that_injects(cluster: Cluster, tenant: Tenant) -> None:
    """The API server chooses a new random order of its mutating policies whenever one of them changes."""
    with injecting(cluster, tenant.namespace) as name:
        for number in range(ORDERS):
            cluster.kubectl("annotate", "mutatingadmissionpolicybinding", name, f"draw={number}", "--overwrite")
            made = until(lambda: changed(dry_run(tenant, app({})).made, Made()), "the policy is in force")
            check_containers(made, {"app": epc(10)})


def test_a_limit_range(tenant: Tenant) -> None:
    def limit(kind: str, amounts: dict[str, str]) -> str:
        item = {"type": "Container", kind: amounts}
        made = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sgx"}, "spec": {"limits": [item]}}
        tenant.kubectl("delete", "limitrange", "--all")
        return create(tenant, made).said

    # After a rewrite the API server applies the default again, so a container gets at least the default.
    for default, amount in ({MIB: "16"}, 16), ({BYTES: "17Mi"}, 17):
        limit("default", default)
        given = until(lambda: changed(dry_run(tenant, app({})).made, Made()), "the default is used")
        check_containers(given, {"app": epc(amount)})
        check_containers(dry_run(tenant, app({BYTES: "8Mi"})).made, {"app": epc(amount)})
        check_containers(dry_run(tenant, app({BYTES: "32Mi"})).made, {"app": epc(32)})

    limit("max", {MIB: "16"})
    refused = until(lambda: dry_run(tenant, app({BYTES: "32Mi"})).said, "the maximum is used")
    assert f"maximum {MIB} usage per Container is 16, but limit is 32" in refused
    assert "refuses every Pod of its namespace" in limit("max", {BYTES: "16Mi"})
    until(lambda: "No limit is specified" in dry_run(tenant, app({})).said, "it does so")


def test_a_quota_of_the_old_name_is_warned_of(asking: Tenant) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "sgx"}}
    (warning,) = dry_run(asking, quota | {"spec": {"hard": {f"requests.{BYTES}": "20971521"}}}).warnings
    assert f"Write requests.{MIB}: 21" in warning
    assert dry_run(asking, quota | {"spec": {"hard": {f"requests.{MIB}": 20}}}).warnings == []


@pytest.mark.parametrize(
    ("limits", "many", "message"),
    [
        ({}, 1001, "more than 1000 containers"),
        ({BYTES: "1Mi"}, 51, "more than 50 containers of a Pod ask for SGX's"),
        ({MIB: "1"} | {f"example.com/{n}": "1" for n in range(100)}, 1, "more than 100 limits"),
    ],
    ids=["containers", "containers with EPC", "limits"],
)
def test_pods_that_would_cost_much(asking: Tenant, limits: dict[str, object], many: int, message: str) -> None:
    answer = dry_run(asking, pod(*(container(f"app-{n}", limits) for n in range(many))))
    assert (answer.made, message in answer.said) == ({}, True)


def test_a_large_pod(asking: Tenant) -> None:
    many = [container(f"app-{n}", {BYTES: "1Mi"}, env={f"V{i}": "x" for i in range(LARGE)}) for n in range(LARGE)]
    made = dry_run(asking, pod(*many)).made
    assert all(one["resources"]["limits"] == {MIB: "1", ENCLAVE: "1"} for one in made["spec"]["containers"])
    assert all(len(one["env"]) == LARGE + 1 for one in made["spec"]["containers"])


def is_rewritten(tenant: Tenant, limits: dict[str, object]) -> bool:
    """Whether one of the chart's policies, the release's or a case's, changes a Pod with these limits."""
    made = dry_run(tenant, app(limits) | {"metadata": {"name": "another"}}).made
    return bool(made) and BUDGET in admitted(made)["app"].env


def changed(made: Mapping[str, Any], before: Made) -> Mapping[str, Any]:
    """The Pod if its container differs from `before`; empty if the container is the same."""
    return made if made and admitted(made)["app"] != before else {}


@contextlib.contextmanager
def rendered(cluster: Cluster, *settings: str) -> Iterator[None]:
    """Add the chart's policies with these values beside the release's, under other names."""
    values = (*add_on.CONSENT, "image.registry=registry.example.com", "admission.mutate=on", *settings)
    chosen = [f"--set={one}" for one in values]
    shown = [f"--show-only=templates/{name}.yaml" for name in POLICIES]
    chart = str(add_on.ROOT / "charts" / "confcom")
    words = ["helm", "template", add_on.RELEASE, chart, f"--namespace={add_on.SYSTEM}", *chosen, *shown]
    text = cluster.run(words).stdout
    text = re.sub("confcom-(epc-names|pods|templates)", rf"confcom-case-{secrets.token_hex(4)}-\1", text)
    cluster.kubectl("create", "--filename=-", input=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--filename=-", input=text)


@contextlib.contextmanager
def injecting(cluster: Cluster, namespace: str) -> Iterator[str]:
    """Add a mutating policy that gives EPC to containers without limits, and its binding of the same name."""
    name = f"case-{secrets.token_hex(4)}"
    resources = f'Object.spec.containers.resources{{limits: {{"{BYTES}": "10Mi"}}, requests: {{"{BYTES}": "10Mi"}}}}'
    containers = f"object.spec.containers.map(c, Object.spec.containers{{name: c.name, resources: {resources}}})"
    expression = f"Object{{spec: Object.spec{{containers: {containers}}}}}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    without = "!object.spec.containers.exists(c, c.?resources.?limits.hasValue())"
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": selector},
        "matchConditions": [{"name": "without-limits", "expression": without}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    for made in (
        {**head, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}},
    ):
        cluster.kubectl("create", "--filename=-", input=json.dumps(made))
    try:
        yield name
    finally:
        cluster.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)

"""Renders the chart with the real helm; on a machine without helm these tests are skipped."""

import functools
import json
import re

import pytest
import yaml

from testkit.chart_golden import AKS, CHART, NAMESPACE, REGISTRY, RELEASE, call_helm, parsed
from testkit.cluster_programs import find_helm
from testkit.http_server import send, serving_http

ALLOWED = ("", "")
"""Result of a render that succeeds: empty code and empty message."""
KINDS = {
    "v1": ("Node", "Pod", "ServiceAccount", "ConfigMap"),
    "apps/v1": ("DaemonSet", "Deployment"),
    "batch/v1": ("Job",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "admissionregistration.k8s.io/v1": (
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ),
}
"""API kinds of the objects that the chart renders or looks up."""


ALWAYS = {
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    f"/api/v1/namespaces/{NAMESPACE}/secrets": {"kind": "SecretList", "apiVersion": "v1", "items": []},
}
"""The API server's constant answers; the empty list of Secrets means that helm has recorded no release."""


class Lookups:
    """An API server with the parts that helm reads; its only objects are nodes and DaemonSets."""

    def __init__(self):
        self.nodes = {}
        self.daemon_sets = {}

    def handle(self, handler):
        found = self.answer(handler.path.partition("?")[0])
        body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}).encode()
        send(handler, 200 if found else 404, {"Content-Type": "application/json"}, body)

    def answer(self, path):
        if path in ALWAYS:
            return ALWAYS[path]
        if path == "/apis":
            named = [{"groupVersion": one, "version": "v1"} for one in KINDS if "/" in one]
            groups = [{"name": one["groupVersion"].partition("/")[0], "versions": [one]} for one in named]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/api/v1/nodes":
            items = [{"metadata": {"name": name, "labels": labels}} for name, labels in self.nodes.items()]
            return {"kind": "NodeList", "apiVersion": "v1", "items": items}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in KINDS:
            return {
                "kind": "APIResourceList",
                "groupVersion": version,
                "resources": [*map(kind_of_api, KINDS[version])],
            }
        found, _, name = path.rpartition("/")
        return self.daemon_sets.get(name) if found == f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets" else None


def kind_of_api(kind):
    plural = f"{kind.lower()[:-1]}ies" if kind.endswith("Policy") else f"{kind.lower()}s"
    namespaced = kind not in {"Node", "ClusterRole", "ClusterRoleBinding"} and "Admission" not in kind
    return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": ["get"]}


@pytest.fixture(scope="session")
def helm_program():
    program = find_helm()
    if program is None:
        pytest.skip("no helm 4: put it on PATH, or build it with `make e2e-tools`")
    return program


@pytest.fixture(scope="session")
def helm(helm_program):
    return functools.partial(call_helm, helm_program)


@pytest.fixture(scope="session")
def template(helm):
    """Runs `helm template` with --set arguments, a values file and more arguments; images are in `registry`."""

    def run(*settings, values=None, more=(), registry=REGISTRY):
        named = [f"image.registry={registry}"] if registry else []
        chosen = [word for setting in (*named, *settings) for word in ("--set", setting)]
        files = ["--values", values] if values else []
        return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *files, *chosen, *more)

    return run


@pytest.fixture(scope="session")
def render(template):
    def run(*settings, **options):
        done = template(*settings, **options)
        assert done.returncode == 0, done.stderr
        return parsed(done.stdout)

    return run


@pytest.fixture(scope="session")
def refused():
    """Reads the code of the chart's refusal from helm's output, and checks that helm rendered nothing."""

    def code(done):
        assert done.returncode != 0
        assert "DaemonSet" not in done.stdout
        parts = re.search(r"\nconfcom: .+\.\n  why: .+\.\n  do:  (?s:.+)\n\n  code: ([a-z-]+)\n", done.stderr)
        assert parts, done.stderr
        return parts[1]

    return code


@pytest.fixture
def cluster():
    lookups = Lookups()
    with serving_http(lookups.handle) as lookups.address:
        yield lookups


def split(settings):
    """Split a text of settings into the name of a values file, if any, and --set arguments."""
    return (AKS, settings.removeprefix(f"{AKS.name},")) if settings.startswith(AKS.name) else (None, settings)


@pytest.fixture(scope="session")
def daemon_sets(render):
    @functools.cache
    def run(settings):
        file, values = split(settings)
        return {name: one for (kind, name), one in render(values, values=file).items() if kind == "DaemonSet"}

    return run


@pytest.fixture
def installed(cluster, daemon_sets):
    """Puts the chart's rendered DaemonSets into the cluster; each DaemonSet's status counts all nodes."""

    def install(settings):
        status = {"status": {"desiredNumberScheduled": len(cluster.nodes)}}
        cluster.daemon_sets = {name: one | status for name, one in daemon_sets(settings).items()}

    return install


@pytest.fixture
def kubeconfig(cluster, tmp_path):
    path = tmp_path / "kubeconfig"
    contents = {
        "clusters": [{"name": "any", "cluster": {"server": cluster.address}}],
        "contexts": [{"name": "any", "context": {"cluster": "any"}}],
        "current-context": "any",
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **contents}))
    return path


@pytest.fixture
def upgrade(kubeconfig, template, refused):
    """Upgrades with these settings only; gives the code of the chart's refusal, and helm's whole message."""
    asking = ("--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kubeconfig", kubeconfig)

    def run(settings, *more):
        file, values = split(settings)
        done = template(values, values=file, more=(*asking, *more))
        return (refused(done), done.stderr) if done.returncode else ALLOWED

    return run


@pytest.fixture
def upgrade_notes(kubeconfig, helm):
    """Gives the notes of a change to these settings; helm installs, because no test records a release."""

    def read(settings):
        asking = ("--dry-run=server", "--take-ownership", "--disable-openapi-validation", "--kubeconfig", kubeconfig)
        chosen = ("--set", f"image.registry={REGISTRY},{settings}")
        done = helm("install", RELEASE, CHART, "--namespace", NAMESPACE, *chosen, *asking)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    return read

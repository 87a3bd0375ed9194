"""Every manifest against what the API servers of four Kubernetes versions take, to the last field."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from testkit.chart_manifests import AESMD, HELPER

SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = ("1.34", "1.35", "1.36", "1.37")
LARGEST_FILE = 300 * 1024
PREFERRED = "quoteHelper.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]"
VALUES = {
    "simulated": ("simulated.enabled=true",),
    "hardware": ("quoteHelper.enabled=false",),
    "everything": (
        AESMD,
        "quoteHelper.sgxPrvGroup=123",
        "quoteHelper.collateral.preset=azure",
        "quoteHelper.collateral.caBundle.configMap=our-ca",
        "quoteHelper.collateral.proxy.https=http://proxy.example.com:3128",
        "simulated.enabled=true",
        "simulated.besideHardware=true",
        "serviceMonitor.enabled=true",
        "serviceMonitor.labels.release=prometheus",
        "networkPolicy.enabled=true",
        "networkPolicy.from[0].ipBlock.cidr=10.0.0.0/8",
        "provision.namespaces[0]=trusted",
        "image.pullSecrets[0].name=login",
        "tolerations[0].operator=Exists",
        "quoteHelper.tolerations[0].tolerationSeconds=5",
        "quoteHelper.priorityClassName=calm",
        f"{PREFERRED}.weight=1",
        f"{PREFERRED}.podAffinityTerm.topologyKey=zone",
    ),
    "policies that change Pods": (
        "simulated.enabled=true",
        "admission.mutate=on",
        "serviceMonitor.enabled=true",
        "networkPolicy.enabled=true",
    ),
}
MUTATING = "policies that change Pods"
WITH_MUTATING = ("1.36", "1.37")
"""The versions whose API servers have them."""


def schema_of(name):
    return json.loads((SCHEMAS / f"{name}.json").read_text())


class Checker:
    """Refuses what one Kubernetes, with the Prometheus Operator, would refuse."""

    def __init__(self, version):
        self._schemas = [schema_of(f"kubernetes-{version}"), schema_of("servicemonitor")]

    def problems(self, manifest):
        kind = f"{manifest['apiVersion']}/{manifest['kind']}"
        (schema,) = [schema for schema in self._schemas if kind in schema["kinds"]]
        pointed = {"$ref": f"#/$defs/{schema['kinds'][kind]}", "$defs": schema["$defs"]}
        found = jsonschema.Draft202012Validator(pointed).iter_errors(manifest)
        return [f"{kind} {error.json_path}: {error.message}" for error in found]


@pytest.fixture(scope="module", params=KUBERNETES)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def checker(version):
    return Checker(version)


@pytest.fixture(scope="module", params=[*VALUES, "aks"])
def manifests(plain_render, aks, version, request):
    more = ("--kube-version", f"{version}.0")
    if request.param == MUTATING and version not in WITH_MUTATING:
        pytest.skip(f"the chart renders none for Kubernetes {version}, which has no MutatingAdmissionPolicy")
    if request.param == "aks":
        return plain_render(AESMD, values=aks, more=more)
    return plain_render(*VALUES[request.param], more=more)


def test_the_api_server_takes_every_manifest(checker, manifests):
    assert [problem for manifest in manifests.values() for problem in checker.problems(manifest)] == []


def test_what_it_would_refuse_is_seen(checker, plain_render):
    manifest = plain_render(*VALUES["simulated"])["DaemonSet", HELPER]
    assert checker.problems(manifest) == []
    pod = ("spec", "template", "spec")
    container = (*pod, "containers", 0)
    for path, value in [
        (("spec", "updateStrategi"), {}),
        (("spec", "minReadySeconds"), "5"),
        (("spec", "updateStrategy", "rollingUpdate", "maxSurge"), True),
        ((*pod, "hostPid"), True),
        ((*container, "livenessProbe", "httpGet", "port"), 1.5),
        ((*container, "resources", "limits", "memory"), ["1"]),
        ((*container, "securityContext", "capabilities", "dropped"), []),
    ]:
        wrong = copy.deepcopy(manifest)
        place = wrong
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert len(checker.problems(wrong)) == 1, path
    del manifest["spec"]["selector"]
    assert checker.problems(manifest) == ["apps/v1/DaemonSet $.spec: 'selector' is a required property"]


def test_each_file_is_of_its_version():
    files = [schema_of(f"kubernetes-{version}") for version in KUBERNETES]
    assert [one["version"].rpartition(".")[0] for one in files] == list(KUBERNETES)
    # Copies of one version would pass everything else here.
    assert len({json.dumps(one["$defs"]) for one in files}) == len(files)


def test_files_stay_small():
    assert all(path.stat().st_size < LARGEST_FILE for path in SCHEMAS.iterdir())


def test_everything_is_checked_with_everything_on(plain_render):
    kinds = {kind for name in ("everything", MUTATING) for kind, _ in plain_render(*VALUES[name])}
    known = {name.rpartition("/")[2] for name in (*schema_of("kubernetes-1.36")["kinds"], "x/ServiceMonitor")}
    assert kinds == known

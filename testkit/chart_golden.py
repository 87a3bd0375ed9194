"""Checked-in renders of the chart in tests/chart/golden; `python -m testkit.chart_golden` writes new ones."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from testkit.cluster_programs import find_helm

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "confcom"
AKS = CHART / "values-aks.yaml"
FOLDER = ROOT / "tests" / "chart" / "golden"
RELEASE, NAMESPACE, REGISTRY = "confcom", "sgx", "registry.test"
MUTATING = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
DIGEST = "sha256:" + "0123456789abcdef" * 4
TEST_ROOT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
SIMULATED_LABEL = "confcom.internal/simulated-sgx"


@dataclass(frozen=True, slots=True)
class ValueSet:
    """Inputs of one render of the chart, in addition to the chart's default values and the test registry."""

    values: dict = field(default_factory=dict)
    kubernetes: str = ""
    """Version of the API server; empty for a `helm template` that names no API server."""
    file: Path | None = None
    """A values file, which helm reads before `values`."""

    @property
    def api_server(self):
        """Options with which `helm template` assumes an API server of this version."""
        if not self.kubernetes:
            return []
        kinds = ["v1/Pod", *([MUTATING] if self.kubernetes >= "1.36" else [])]
        return ["--kube-version", self.kubernetes, *(word for kind in kinds for word in ("--api-versions", kind))]

    @property
    def input(self):
        return json.dumps({"image": {"registry": REGISTRY}} | self.values)


PREFERRED = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
SPREAD = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [PREFERRED]}}
MUTATE_ONLY = {"provision": {"policy": False}, "admission": {"mutate": "on", "validate": False}}
# YAML reads a bare `off` as false.
NO_POLICIES = MUTATE_ONLY | {"admission": {"mutate": False, "validate": False}}
WITH_AESMD = {"aesmd": {"image": {"repository": "our/aesmd"}}}

SETS = {
    "simulated": ValueSet({"simulated": {"enabled": True}, "global": {"anything": 1}}, "1.36.3"),
    "simulated-1.34": ValueSet({"simulated": {"enabled": True}}, "1.34.4"),
    "simulated-1-tib": ValueSet(
        {
            "image": {"registry": ""},
            "simulated": {"enabled": True, "epcMiB": 1048576},
            "quoteHelper": {"enabled": False},
            "devicePlugin": {
                "image": {"repository": "a.example/b/plugin"},
                "accounting": "capacity",
                "apiServer": "1.36",
            },
            "controller": {"image": {"repository": "localhost/controller"}, "maxEpcMiBPerNode": 2097152},
            **MUTATE_ONLY,
        }
    ),
    "daemon-options": ValueSet(
        {
            "image": {"registry": "mirror.example.com:5000/sgx", "tag": "v2", "pullPolicy": "Never"},
            "simulated": {
                "enabled": True,
                "epcMiB": 2048,
                "secretName": "our-root",
                "quotingEnclave": {"mrEnclave": "ab" * 32, "isvSvn": 0},
                "staging": "early",
                "collateral": {"serve": True, "tlsSecret": "our-tls"},
            },
            "logLevel": "debug",
            "devicePlugin": {
                "accounting": "devices",
                "maxEpcMiB": 4096,
                "reserveEpcMiB": 1024,
                "aesmdMount": False,
                "resources": {"limits": {"memory": "1Gi"}},
            },
            "quoteHelper": {
                "image": {"digest": DIGEST},
                "epcMiB": 5,
                "hostPID": False,
                "logQuotesPerPeer": 0,
                "resources": {"limits": {"memory": "1Gi"}},
            },
            **NO_POLICIES,
        },
        "1.36.3",
    ),
    "placement": ValueSet(
        {
            "image": {"registry": REGISTRY, "pullSecrets": [{"name": "login"}]},
            "simulated": {
                "enabled": True,
                "nodeSelector": {SIMULATED_LABEL: None, "a.b/fake": "yes"},
                "collateral": {"serve": True},
            },
            "tolerations": [{"key": "sgx", "operator": "Exists"}],
            "devicePlugin": {"affinity": SPREAD, "priorityClassName": "calm"},
            "quoteHelper": {
                "image": {"digest": DIGEST},
                "tolerations": [{"key": "own", "operator": "Exists", "tolerationSeconds": 5}],
                "logQuotesPerPeer": "all",
            },
            "controller": {"affinity": SPREAD, "priorityClassName": "calm", "tolerations": [{"operator": "Exists"}]},
            "serviceMonitor": {
                "enabled": True,
                "labels": {"release": "prometheus", "app.kubernetes.io/version": "mine", "team": "mine"},
            },
            "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
            "networkPolicy": {"prometheus": [{"podSelector": {"matchLabels": {"a": "b"}}}], "apiServer": []},
            **MUTATE_ONLY,
        }
    ),
    "hardware-plugin-only": ValueSet(
        {"quoteHelper": {"enabled": False}, "networkPolicy": {"enabled": False}}, "1.30.9"
    ),
    "hardware-aesmd": ValueSet(
        {"image": {"registry": REGISTRY, "tag": "v2"}, "quoteHelper": WITH_AESMD, **NO_POLICIES}
    ),
    "hardware-collateral": ValueSet(
        {
            "nodeSelector": {NFD_LABEL: None, "a.b/sgx": "yes"},
            "quoteHelper": {
                "aesmd": {"image": {"registry": "b.example", "repository": "our/aesmd", "digest": DIGEST}},
                "sgxPrvGroup": 123,
                "expectedRoot": TEST_ROOT,
                "collateral": {
                    "preset": "pccs",
                    "pccs": {"url": "https://10.1.2.3:8081/sgx/certification/v4"},
                    "caBundle": {"configMap": "our-ca", "key": "all.pem"},
                    "proxy": {"https": "http://proxy.example.com:3128", "http": "http://10.0.0.1", "no": "10.1.2.3"},
                },
            },
            **NO_POLICIES,
        }
    ),
    "aks": ValueSet(
        {
            "devicePlugin": {"affinity": SPREAD},
            "quoteHelper": WITH_AESMD,
            "provision": {"namespaces": ["trusted", "other"]},
            "admission": {"validate": False},
            "networkPolicy": {"apiServer": [{"ipBlock": {"cidr": "10.0.0.4/32"}}]},
        },
        "1.36.3",
        AKS,
    ),
    "beside-hardware": ValueSet(
        {"simulated": {"enabled": True, "besideHardware": True}, "quoteHelper": WITH_AESMD}, "1.36.3"
    ),
    "beside-hardware-plugin": ValueSet(
        {
            "simulated": {"enabled": True, "besideHardware": True},
            "controller": {"enabled": False},
            "serviceMonitor": {"enabled": True},
            **MUTATE_ONLY,
        },
        "1.36.3",
    ),
}
NOTES = (
    "simulated",
    "daemon-options",
    "hardware-plugin-only",
    "hardware-collateral",
    "beside-hardware",
    "beside-hardware-plugin",
)
"""Value sets for which helm's notes are also checked in."""


def files(program):
    yield from ((f"{name}.yaml", render(program, values)) for name, values in SETS.items())
    yield from ((f"{name}.txt", notes(program, SETS[name])) for name in NOTES)


def call_helm(program, *arguments, stdin=""):
    """Run helm without a cluster, unless the arguments name a cluster."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
    command = [program, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environ, check=False)


def run_helm(program, values, *arguments):
    chosen = [word for path in (values.file, "-") if path for word in ("--values", path)]
    return call_helm(program, *arguments, "--namespace", NAMESPACE, *chosen, stdin=values.input)


def render(program, values):
    done = run_helm(program, values, "template", RELEASE, CHART, *values.api_server)
    assert done.returncode == 0, done.stderr
    return done.stdout


def notes(program, values):
    """Helm's notes for an installation with these values; helm runs without an API server."""
    done = run_helm(program, values, "install", RELEASE, CHART, "--dry-run=client", "--output=json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["info"]["notes"]


class _Loader(yaml.CSafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{sorted(keys)} has a key twice"
        return super().construct_mapping(node, deep)


def parsed(text):
    """The manifests in a YAML text, keyed by kind and name."""
    documents = [document for document in yaml.load_all(text, _Loader) if document]
    manifests = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(manifests) == len(documents)
    return manifests


@cache
def golden(name):
    """The checked-in manifests of a value set, keyed by kind and name; callers must not change them."""
    return parsed((FOLDER / f"{name}.yaml").read_text())


def main():
    FOLDER.mkdir(exist_ok=True)
    made = dict(files(find_helm()))
    for path in FOLDER.iterdir():
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"{len(made)} files in {FOLDER}\n")


if __name__ == "__main__":
    main()

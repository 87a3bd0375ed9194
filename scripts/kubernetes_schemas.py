"""Make the schemas in tests/chart: all fields that each Kubernetes accepts in the kinds of the chart and of docs.

The sources are the OpenAPI documents in Kubernetes' Go module and the Prometheus Operator's definitions. A schema keeps
only the parts that decide whether a manifest is valid; unknown fields are refused, as with the API server's
`fieldValidation=Strict`. Needs Go and the network; the tests need neither.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "chart" / "schemas"
KUBERNETES = ("1.34.4", "1.35.4", "1.36.3", "1.37.2")
OPERATOR = "0.85.0"
OPERATOR_KINDS = ("servicemonitors", "prometheusrules")
DEFINITION = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
KINDS = (
    "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    "io.k8s.api.apps.v1.DaemonSet",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.core.v1.ConfigMap",
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.ResourceQuota",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.ServiceAccount",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.rbac.v1.ClusterRole",
    "io.k8s.api.rbac.v1.ClusterRoleBinding",
    "io.k8s.api.rbac.v1.Role",
    "io.k8s.api.rbac.v1.RoleBinding",
)
SEVERAL_TYPES = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ["integer", "string"],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ["number", "string"],
}
"""OpenAPI 2 has one type for a schema, and says `string`; the API server takes numbers as well."""
KEPT = ("type", "required", "enum", "minimum", "maximum", "pattern", "minLength", "maxLength", "minItems", "maxItems")
NOT_WRITTEN = frozenset({"status", "managedFields"})
"""Fields that only the cluster writes."""
DEFINITIONS = "#/definitions/"


def main() -> int:
    for version in KUBERNETES:
        document = json.loads((module(f"k8s.io/kubernetes@v{version}") / "api/openapi-spec/swagger.json").read_text())
        definitions = document["definitions"]
        served = tuple(name for name in KINDS if name in definitions)  # an older API server lacks some
        kinds = {group_version_kind(definitions[name]): name for name in served}
        path = FOLDER / f"kubernetes-{version.rpartition('.')[0]}.json"
        write(path, version, kinds, reachable(definitions, served))
    operator = module(f"github.com/prometheus-operator/prometheus-operator@v{OPERATOR}")
    kinds, schemas = {}, {}
    for plural in OPERATOR_KINDS:
        crd = yaml.safe_load((operator / DEFINITION.format(plural)).read_text())["spec"]
        (only,) = crd["versions"]
        name = crd["names"]["kind"]
        schemas[name] = pruned(only["schema"]["openAPIV3Schema"])
        schemas[name]["properties"]["metadata"] = {"type": "object"}
        kinds[f"{crd['group']}/{only['name']}/{name}"] = name
    write(FOLDER / "prometheus-operator.json", OPERATOR, kinds, schemas)
    return 0


def module(name: str) -> Path:
    command = ["go", "mod", "download", "-json", name]
    with tempfile.TemporaryDirectory() as nowhere:  # outside of any module of ours
        told = subprocess.run(command, cwd=nowhere, capture_output=True, text=True, check=False)
    found = json.loads(told.stdout or "{}")
    if "Dir" not in found:
        sys.exit(f"{name}: {found.get('Error') or told.stderr}")
    return Path(found["Dir"])


def group_version_kind(definition: dict[str, Any]) -> str:
    (one,) = definition["x-kubernetes-group-version-kind"]
    return "/".join(part for part in (one["group"], one["version"], one["kind"]) if part)


def reachable(definitions: dict[str, Any], roots: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = {"type": SEVERAL_TYPES[name]} if name in SEVERAL_TYPES else pruned(definitions[name])
            waiting += references(found[name])
    return found


def pruned(schema: dict[str, Any]) -> dict[str, Any]:
    """The parts of a schema that decide whether a value is valid; an object with properties has no others."""
    kept = {key: schema[key] for key in KEPT if key in schema}
    if "$ref" in schema:
        kept["$ref"] = "#/$defs/" + schema["$ref"].removeprefix(DEFINITIONS)
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    if "items" in schema:
        kept["items"] = pruned(schema["items"])
    if "properties" in schema:
        kept["properties"] = {
            name: pruned(one) for name, one in schema["properties"].items() if name not in NOT_WRITTEN
        }
        kept["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = pruned(schema["additionalProperties"])
    return kept


def references(schema: dict[str, Any]) -> Iterator[str]:
    for key, value in schema.items():
        if key == "$ref":
            yield value.removeprefix("#/$defs/")
        elif isinstance(value, dict):
            yield from references(value)


def write(path: Path, version: str, kinds: dict[str, str], definitions: dict[str, Any]) -> None:
    """JSON with one definition per line, so that people can read how versions differ."""
    lines = [f"{json.dumps(one)}: {json.dumps(definitions[one], sort_keys=True)}" for one in sorted(definitions)]
    text = f'{{"version": "{version}",\n"kinds": {json.dumps(kinds, sort_keys=True)},\n"$defs": {{\n'
    path.write_text(text + ",\n".join(lines) + "\n}}\n")
    print(f"{path.name}: {len(definitions)} definitions, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())

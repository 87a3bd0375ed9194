"""The manifests in the documentation, against what the API servers of four Kubernetes versions take."""

import json

import jsonschema
import pytest
import yaml

from confcom.device_plugin.resources import DEFAULT_NAMES
from testkit.documentation import PAGES, ROOT, blocks

KUBERNETES = ("1.34", "1.35", "1.36", "1.37")
POD_SPEC = "io.k8s.api.core.v1.PodSpec"
QUOTA = "docs/how-to/limit-epc-per-namespace.md"
OTHER_APIS = ("karpenter.sh/",)
MANIFESTS = [
    (page, manifest)
    for page in PAGES
    for block in blocks(page, "yaml")
    for manifest in yaml.safe_load_all(block)
    # Others are parts, shown beside what is said of them, or of APIs that are not Kubernetes'.
    if isinstance(manifest, dict) and "kind" in manifest and not manifest["apiVersion"].startswith(OTHER_APIS)
]


def schemas(room, version):
    return json.loads((ROOT / "tests" / room / "schemas" / f"kubernetes-{version}.json").read_text())


def problems(manifest, version):
    """What is wrong with it; of a Pod its spec, which the chart's kinds have too."""
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    chart, found, checked = schemas("chart", version), schemas("docs", version), manifest
    name = found["kinds"].get(kind)
    if name is None:
        found, name = chart, chart["kinds"].get(kind)
    if name is None:
        name, checked = {"v1/Pod": POD_SPEC}[kind], manifest["spec"]
    schema = {"$ref": f"#/$defs/{name}", "$defs": found["$defs"]}
    return [one.message for one in jsonschema.Draft202012Validator(schema).iter_errors(checked)]


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_api_server_takes_them(version):
    assert {manifest["kind"] for _, manifest in MANIFESTS} >= {"ResourceQuota", "Pod", "Job"}
    found = {f"{page}: {manifest['kind']}": problems(manifest, version) for page, manifest in MANIFESTS}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_quota_counts_resources_that_there_are():
    (quota,) = yaml.safe_load_all(blocks(QUOTA, "yaml")[0])
    names = {name.removeprefix("requests.") for name in quota["spec"]["hard"]}
    assert all(name.startswith("requests.") for name in quota["spec"]["hard"])
    assert names <= set(DEFAULT_NAMES.values())

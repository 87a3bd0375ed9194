import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from testkit.chart_golden import SETS, golden
from testkit.documentation import PAGES, blocks

SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = ("1.34", "1.35", "1.36", "1.37")
FROM_1_36 = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
"""Kinds that API servers before 1.36 lack; renders for these API servers contain no such object."""
OTHER_APIS = ("karpenter.sh/",)
"""API groups of manifests in pages for which the tests have no schemas. YAML without a kind is a fragment."""
IN_PAGES = {
    f"{page}: {manifest['kind']} {manifest['metadata']['name']}": manifest
    for page in PAGES
    for block in blocks(page, "yaml")
    for manifest in yaml.safe_load_all(block)
    if isinstance(manifest, dict) and "kind" in manifest and not manifest["apiVersion"].startswith(OTHER_APIS)
}


def schema_of(name):
    return json.loads((SCHEMAS / f"{name}.json").read_text())


class Checker:
    def __init__(self, version):
        self._schemas = [schema_of(f"kubernetes-{version}"), schema_of("prometheus-operator")]
        self.lacks = FROM_1_36 if version < "1.36" else ()

    def problems(self, manifest):
        kind = f"{manifest['apiVersion']}/{manifest['kind']}"
        (schema,) = [schema for schema in self._schemas if kind in schema["kinds"]]
        pointed = {"$ref": f"#/$defs/{schema['kinds'][kind]}", "$defs": schema["$defs"]}
        found = jsonschema.Draft202012Validator(pointed).iter_errors(manifest)
        return [f"{kind} {error.json_path}: {error.message}" for error in found]


@pytest.fixture(scope="module", params=KUBERNETES)
def checker(request):
    return Checker(request.param)


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_takes_every_manifest(checker, name):
    taken = [one for one in golden(name).values() if one["kind"] not in checker.lacks]
    assert [problem for one in taken for problem in checker.problems(one)] == []


@pytest.mark.parametrize("name", IN_PAGES)
def test_the_api_server_takes_every_manifest_of_the_pages(checker, name):
    assert checker.problems(IN_PAGES[name]) == []

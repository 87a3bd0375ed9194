"""The page on scaling from zero shows the sizes of the chart and of `status`. Autoscalers can read the tags."""

import re
from pathlib import Path

import pytest
import yaml

from confcom.kubernetes.names import REAL
from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import SgxKind, sgx_kind

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "scale-from-zero.md"
TAG = re.compile(r"^\| `(\S+)` \| (?:`k8s.io_cluster-autoscaler_node-template_resources_(\S+)`|none)", re.MULTILINE)
EPC_MIB = {"Standard_DC1s_v3": 4096, "Standard_DC24ds_v3": 131_072}


def overlays():
    block = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    return [
        (size, one["spec"]["capacity"])
        for one in yaml.safe_load_all(block)
        for size in one["spec"]["requirements"][0]["values"]
    ]


def kind(size):
    return sgx_kind(Node("n", {"node.kubernetes.io/instance-type": size}))


def test_each_size_has_one_overlay_with_its_epc():
    by_size = dict(overlays())
    assert len(overlays()) == len(by_size)
    for offered in by_size.values():
        assert offered.keys() == set(REAL)
    assert {size: int(by_size[size][REAL.epc]) + int(by_size[size][REAL.helper]) for size in EPC_MIB} == EPC_MIB


def test_the_values_for_aks_choose_all_sizes():
    values = yaml.safe_load((ROOT / "charts" / "confcom" / "values-aks.yaml").read_text())
    (term,) = values["nodeSelectorTerms"]
    assert sorted(term["matchExpressions"][0]["values"]) == sorted(size for size, _ in overlays())


def test_nodes_of_all_sizes_have_hardware_in_any_spelling_of_azures():
    for size, _ in overlays():
        assert kind(size) is kind(size.lower()) is SgxKind.HARDWARE


@pytest.mark.parametrize("size", ["", "Standard_DC8_v2", "Standard_DC2as_v5", "Standard_D2s_v3"])
def test_nodes_of_other_sizes_have_none(size):
    assert kind(size) is SgxKind.NONE


def test_a_tag_names_its_resource_or_there_is_none():
    """The cluster autoscaler's rules allow no tag for a resource name that contains an underscore."""
    tags = dict(TAG.findall(PAGE.read_text()))
    assert tags.keys() == set(REAL)
    read = {name: tag.replace("_", "/").replace("~2", "/") for name, tag in tags.items() if tag}
    assert read == {name: name for name in (REAL.enclave, REAL.provision)}

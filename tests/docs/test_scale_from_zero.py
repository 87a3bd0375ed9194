"""The page on scaling from zero shows the sizes of the chart and of `status`. Autoscalers can read the tags."""

import re

import pytest
import yaml

from confcom.device_plugin.resources import DEFAULT_HELPER_MIB, NODE_USERS
from confcom.kubernetes.epc_accounting import HELPERS
from confcom.kubernetes.names import REAL
from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import SgxKind, sgx_kind
from testkit.documentation import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "scale-from-zero.md"
TAG = re.compile(r"^\| `(\S+)` \| (?:`k8s.io_cluster-autoscaler_node-template_resources_(\S+)`|none)", re.MULTILINE)
EPC_GIB = {1: 4, 2: 8, 4: 16, 8: 32, 16: 64, 24: 128, 32: 192, 48: 256}
"""By the number of cores, with a local disk (DCdsv3) or without (Microsoft's page "DCsv3 and DCdsv3-series")."""
SET_ASIDE = HELPERS * DEFAULT_HELPER_MIB
ROW = re.compile(r"^\| (`Standard_\S.*`) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def rows():
    """The table's rows: sizes, EPC, and EPC that is offered beside quote helpers."""
    return [
        (re.findall(r"`(\S+)`", names), *(int(n.replace(",", "")) for n in mib))
        for names, *mib in ROW.findall(PAGE.read_text())
    ]


def sizes():
    return [size for names, *_ in rows() for size in names]


def kind(size):
    return sgx_kind(Node("n", {"node.kubernetes.io/instance-type": size}))


def test_each_size_has_its_epc():
    """A node offers what its quote helpers leave."""
    assert rows() == [
        ([f"Standard_DC{cores}{disk}_v3" for disk in ("s", "ds")], gib * 1024, gib * 1024 - SET_ASIDE)
        for cores, gib in EPC_GIB.items()
    ]


def test_the_overlay_is_the_tables_first_row():
    (overlay,) = (yaml.safe_load(block) for block in blocks("docs/how-to/scale-from-zero.md", "yaml"))
    names, epc, offered = rows()[0]
    assert overlay["metadata"]["name"] == f"confcom-epc-{epc}-mib"
    assert overlay["spec"]["requirements"][0]["values"] == names
    counts = {REAL.epc: offered, REAL.helper: SET_ASIDE, REAL.enclave: NODE_USERS, REAL.provision: NODE_USERS}
    assert overlay["spec"]["capacity"] == {name: str(count) for name, count in counts.items()}


def test_the_values_for_aks_choose_all_sizes():
    values = yaml.safe_load((ROOT / "charts" / "confcom" / "values-aks.yaml").read_text())
    (term,) = values["nodeSelectorTerms"]
    assert sorted(term["matchExpressions"][0]["values"]) == sorted(sizes())


def test_nodes_of_all_sizes_have_hardware_in_any_spelling_of_azures():
    for size in sizes():
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

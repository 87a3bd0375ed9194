"""The page on scaling from zero is made from the table of sizes, and its tags are what the cluster autoscaler reads."""

from pathlib import Path

import yaml

from confcom.addon.chart_objects import REAL
from confcom.kubernetes.azure_sizes import SIZES, TAG_PREFIX, find_size, scale_set_tag

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "scale-from-zero.md"


def test_each_size_has_one_overlay_with_its_epc():
    block = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    overlays = list(yaml.safe_load_all(block))
    by_size = {size: one["spec"]["capacity"] for one in overlays for size in one["spec"]["requirements"][0]["values"]}
    assert sum(len(one["spec"]["requirements"][0]["values"]) for one in overlays) == len(by_size)
    assert by_size.keys() == {size.name for size in SIZES}
    for size in SIZES:
        offered = by_size[size.name]
        assert offered.keys() == set(REAL.names)
        assert int(offered[REAL.epc]) + int(offered[REAL.helper]) == size.epc_mib


def test_the_values_for_aks_choose_all_sizes():
    values = yaml.safe_load((ROOT / "charts" / "confcom" / "values-aks.yaml").read_text())
    (term,) = values["nodeSelectorTerms"]
    assert sorted(term["matchExpressions"][0]["values"]) == sorted(size.name for size in SIZES)


def test_sizes_are_found_in_any_spelling_of_azures():
    known = {"Standard_DC1s_v2": 28, "standard_dc8_v2": 168, "Standard_DC24ds_v3": 131_072}
    assert {name: find_size(name).epc_mib for name in known} == known
    others = ("", "Standard_DC8s_v2", "Standard_DC2as_v5", "Standard_D2s_v3")
    assert [find_size(name) for name in others] == [None] * 4


def read_by_autoscaler(tag):
    """The resource that the cluster autoscaler reads from a tag's name, by its rules."""
    return tag.removeprefix(TAG_PREFIX).replace("_", "/").replace("~2", "/")


def test_a_tag_names_its_resource_or_there_is_none():
    tags = {name: scale_set_tag(name) for name in REAL.names}
    assert {name: read_by_autoscaler(tag) for name, tag in tags.items() if tag} == {
        name: name for name in (REAL.enclave, REAL.provision)
    }
    assert tags[REAL.epc] is None, "no spelling of a tag becomes a name with _"

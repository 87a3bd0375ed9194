"""The page on scaling from zero is made from the table of sizes, and its tags are what the cluster autoscaler reads."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from confcom.addon.model.azure_sizes import SIZES, TAG_PREFIX, find_size, scale_set_tag
from confcom.addon.model.resources import REAL

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "scale-from-zero.md"


def test_the_page_is_what_its_script_makes():
    command = [sys.executable, str(ROOT / "scripts" / "scale_from_zero_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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


@pytest.mark.parametrize(
    ("name", "epc"),
    [
        ("Standard_DC1s_v2", 28),
        ("standard_dc8_v2", 168),
        ("Standard_DC1s_v3", 4_096),
        ("Standard_DC24ds_v3", 131_072),
        ("Standard_DC48s_v3", 262_144),
    ],
)
def test_sizes(name, epc):
    found = find_size(name)
    assert found is not None
    assert found.epc_mib == epc


@pytest.mark.parametrize("name", ["", "Standard_DC8s_v2", "Standard_DC2as_v5", "Standard_D2s_v3"])
def test_what_is_no_size_with_sgx(name):
    assert find_size(name) is None


def read_by_autoscaler(tag):
    """The resource that the cluster autoscaler reads from a tag's name, by its rules."""
    return tag.removeprefix(TAG_PREFIX).replace("_", "/").replace("~2", "/")


def test_a_tag_names_its_resource_or_there_is_none():
    tags = {name: scale_set_tag(name) for name in REAL.names}
    assert {name: read_by_autoscaler(tag) for name, tag in tags.items() if tag} == {
        name: name for name in (REAL.enclave, REAL.provision)
    }
    assert tags[REAL.epc] is None, "no spelling of a tag becomes a name with _"

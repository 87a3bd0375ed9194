"""What a cluster is asked to be and what it is; and the look whether its hosts are apart."""

from pathlib import Path

import pytest

from confcom.errors import ConfcomError, SettingsError
from e2e.cluster import tools
from e2e.cluster.plan import Plan, Shape
from e2e.cluster.self_check import OWN_FOLDERS, check_folders
from e2e.cluster.tools import Tools

TOOLS = Tools((Path("/cache/kubelet-1"), Path("/cache/kubernetes-2")), Path("/usr/lib/cni"))


def test_what_is_written_is_read(tmp_path):
    Plan(3, TOOLS).write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == Plan(3, TOOLS)


@pytest.mark.parametrize("nodes", [0, 10])
def test_a_number_of_nodes_that_cannot_be_is_refused(nodes):
    with pytest.raises(SettingsError, match=f"a cluster of {nodes} nodes"):
        Shape(nodes)


def test_a_cluster_serves_who_wants_no_more():
    Plan(3, TOOLS).check_serves(Plan(1, TOOLS), Path("/f"))
    with pytest.raises(SettingsError) as caught:
        Plan(1, TOOLS).check_serves(Plan(3, TOOLS), Path("/f"))
    assert caught.value.why == "it has 1 of 3 nodes"


def test_a_cluster_of_another_version_is_told_by_its_programs():
    newer = Tools((Path("/cache/kubernetes-3"), *TOOLS.folders[:1]), TOOLS.cni)
    with pytest.raises(SettingsError) as caught:
        Plan(1, TOOLS).check_serves(Plan(1, newer), Path("/f"))
    assert caught.value.why == "it runs other programs: kubernetes-2, kubernetes-3"


def test_versions_are_those_of_the_modules():
    found = tools.versions()
    assert next(iter(found.values())) == tools.KUBERNETES
    assert {version.rpartition(".")[0] for version in found} >= {"1.34", "1.35", "1.36", "1.37"}


def test_a_version_that_is_not_pinned_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(SettingsError) as caught:
        tools.prepare(tmp_path, kubernetes="1.20.0")
    assert all(version in caught.value.why for version in ("1.34.4", "1.36.3"))


@pytest.fixture
def roots(tmp_path):
    """Root folders of three hosts and the machine."""
    made = {name: tmp_path / name for name in ("one", "two", "three", "machine")}
    for root in made.values():
        for folder in OWN_FOLDERS:
            (root / folder).mkdir(parents=True)
    return made


def nodes(roots):
    return {name: root for name, root in roots.items() if name != "machine"}


def test_hosts_that_are_apart_pass_and_keep_nothing(roots):
    check_folders(nodes(roots), roots)
    assert not [path for root in roots.values() for path in root.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("folder", OWN_FOLDERS)
@pytest.mark.parametrize("other", ["two", "machine"])
def test_a_folder_that_two_share_is_found_and_named(roots, folder, other):
    (roots["three"] / folder).rmdir()
    (roots["three"] / folder).symlink_to(roots[other] / folder)
    with pytest.raises(ConfcomError, match=f"share /{folder}") as caught:
        check_folders(nodes(roots), roots)
    assert {other, "three"} <= set(str(caught.value).replace(",", "").split())
    assert not [path for root in roots.values() for path in root.rglob("*") if path.is_file()]

"""Upgrades of a release that has hardware nodes: what a quote helper there changes, and what is refused."""

import pytest

from testkit.chart_lookups import ALLOWED
from testkit.chart_manifests import AESMD, HELPER, NFD_LABEL, PLUGIN, SIMULATED_LABEL

HELPERLESS = "quoteHelper.enabled=false"
MIXED = ("simulated.enabled=true", "simulated.besideHardware=true")
NODES = {"hw-1": {NFD_LABEL: "true"}, "sim-1": {SIMULATED_LABEL: "true"}}
OWN_LABEL = {"nodeSelector": {NFD_LABEL: None, "example.com/sgx": "yes"}}
NEW = "NEW WITH THIS UPGRADE"


@pytest.fixture(autouse=True)
def nodes(cluster):
    cluster.nodes = dict(NODES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((HELPERLESS,), (HELPERLESS,)),
        ((HELPERLESS,), (AESMD,)),
        ((AESMD,), (HELPERLESS,)),
        (MIXED, MIXED),
        (MIXED, (*MIXED, AESMD)),
        ((*MIXED, AESMD), (*MIXED, HELPERLESS)),
    ],
    ids=str,
)
def test_what_goes_on(installed, upgrade, before, after):
    installed(*before)
    assert upgrade(*after) == ALLOWED


def test_a_helper_is_not_lost_beside_simulated_nodes_because_its_image_was_forgotten(cluster, installed, upgrade):
    installed(*MIXED, AESMD)
    code, told = upgrade(*MIXED)
    assert code == "aesmd-image-missing"
    assert f"--set {HELPERLESS}" in told
    del cluster.daemon_sets[HELPER]
    assert upgrade(*MIXED) == ALLOWED


def test_the_epc_of_a_running_helper_is_not_lowered(installed, upgrade):
    installed(AESMD, "quoteHelper.epcMiB=5")
    assert upgrade(AESMD)[0] == "helper-epc-lowered"
    assert upgrade(AESMD, "quoteHelper.epcMiB=5") == ALLOWED


@pytest.mark.parametrize(("provider", "lost"), [(AESMD, "their EPC and quotes"), (HELPERLESS, "their EPC")])
def test_what_hardware_nodes_would_lose(installed, upgrade, values_file, provider, lost):
    installed(provider)
    code, told = upgrade(provider, values=values_file(OWN_LABEL))
    assert code == "nodes-lose-daemons"
    assert f"the workloads there {lost}.\n" in told


@pytest.fixture
def notes(helm, chart, kubeconfig):
    """What people read after an upgrade to these settings; helm is told that it installs, for it has no record here."""

    def read(*settings):
        chosen = [word for one in ("image.registry=registry.test", *settings) for word in ("--set", one)]
        asking = ("--dry-run=server", "--take-ownership", "--disable-openapi-validation", "--kubeconfig", kubeconfig)
        done = helm("install", "confcom", chart, "--namespace", "sgx", *chosen, *asking)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    return read


def test_notes_say_that_epc_is_set_aside_from_now_on(installed, notes):
    installed(HELPERLESS)
    assert f"{NEW}: each of these nodes sets 6 MiB of its EPC aside" in notes(AESMD)
    assert NEW not in notes(HELPERLESS)


def test_notes_say_so_once(installed, notes, cluster):
    installed(AESMD)
    assert NEW not in notes(AESMD)
    cluster.daemon_sets = {}
    assert NEW not in notes(AESMD)


def test_the_plugin_beside_simulated_nodes_is_the_hardwares(installed, notes, cluster):
    installed(*MIXED)
    assert NEW in notes(*MIXED, AESMD)
    assert PLUGIN in cluster.daemon_sets

"""What the add-on reads from the chart's objects on hardware nodes is what the chart writes there."""

import pytest
import yaml

from confcom.addon.daemons.hardware_helpers import hardware_helpers
from confcom.addon.daemons.root_comparison import follows_root
from confcom.addon.model.chart_objects import (
    AESMD,
    HARDWARE_PLATFORM,
    PLATFORM_LABEL,
    Component,
    Plan,
    component_of,
    simulates,
)
from confcom.addon.preflight.hardware_quotes import (
    DevicesSeen,
    ProvisionDevice,
    check_epc_set_aside,
    check_provision_group,
)
from confcom.kubernetes.objects import listing, mapping, text
from testkit.chart_manifests import AESMD as WITH_AESMD
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC

MIXED = ("simulated.enabled=true", "simulated.besideHardware=true")
ROOT = "quoteHelper.expectedRoot=-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


@pytest.fixture
def rendered(plain_template):
    def call(*settings):
        done = plain_template(*settings)
        assert done.returncode == 0, done.stderr
        return Plan(tuple(one for one in yaml.safe_load_all(done.stdout) if one))

    return call


@pytest.mark.parametrize(
    ("settings", "test_root"), [((WITH_AESMD,), False), ((WITH_AESMD, ROOT), True), ((WITH_AESMD, *MIXED), False)]
)
def test_what_makes_the_quotes(rendered, settings, test_root):
    (found,) = hardware_helpers(rendered(*settings).daemon_sets)
    assert (found.daemon_set, found.provider, found.test_root) == ("confcom-quote-helper", "aesmd", test_root)


def test_helpers_of_simulated_nodes_are_none_of_hardware(rendered):
    assert hardware_helpers(rendered("simulated.enabled=true").daemon_sets) == ()


def test_the_platform_is_on_the_pods_and_the_simulated_root_on_those_of_simulated_nodes(rendered):
    helpers = [one for one in rendered(WITH_AESMD, *MIXED).daemon_sets if component_of(one) is Component.QUOTE_HELPER]
    labels = [mapping(one, "spec", "template", "metadata", "labels")[PLATFORM_LABEL] for one in helpers]
    assert [label == HARDWARE_PLATFORM for label in labels] == [not simulates(one) for one in helpers]
    assert [follows_root(one) for one in helpers] == [simulates(one) for one in helpers]


def test_the_sidecar_has_the_name_and_leaves_its_last_words(rendered):
    (helper,) = [one for one in rendered(WITH_AESMD).daemon_sets if component_of(one) is Component.QUOTE_HELPER]
    (sidecar,) = [
        one for one in listing(helper, "spec", "template", "spec", "initContainers") if text(one, "name") == AESMD
    ]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_group_of_the_provision_device(rendered):
    seen = DevicesSeen({"m": ProvisionDevice("/dev/sgx_provision", 0o660, 106)})

    def codes(*settings):
        return [one.code for one in check_provision_group(rendered(WITH_AESMD, *settings), seen)]

    assert codes() == ["sgx-prv-group-differs"]
    assert codes("quoteHelper.sgxPrvGroup=118") == ["sgx-prv-group-differs"]
    assert codes("quoteHelper.sgxPrvGroup=106") == []


def test_epc_that_is_set_aside(rendered):
    nodes = [make.node("m", make.HARDWARE, resources={EPC: 28})]
    alone, quoting = rendered("quoteHelper.enabled=false"), rendered(WITH_AESMD)
    (finding,) = check_epc_set_aside(quoting, nodes, alone.daemon_sets)
    assert finding.code == "epc-set-aside"
    assert finding.what.startswith("6 MiB")
    assert not [*check_epc_set_aside(alone, nodes, quoting.daemon_sets)]
    assert not [*check_epc_set_aside(quoting, nodes, quoting.daemon_sets)]
    assert not [*check_epc_set_aside(quoting, nodes, ())]

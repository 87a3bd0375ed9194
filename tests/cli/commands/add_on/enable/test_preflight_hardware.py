"""Preflight of quotes on SGX hardware: EPC that is set aside, and the group of the provision device."""

import pytest

from confcom.addon.cluster.kubectl import MOST_ASKED
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import WITH_AESMD
from testkit.fake_cluster.objects import EPC, SYSTEM

SET_ASIDE, DIFFERS, UNKNOWN = "epc-set-aside", "sgx-prv-group-differs", "sgx-prv-group-unknown"
GROUP = "quoteHelper.sgxPrvGroup"


def device(gid=106, mode="0660"):
    return {"mode": mode, "uid": 0, "gid": gid}


def warnings(document):
    return {one["code"]: one for one in document["findings"] if one["outcome"] == "warning"}


@pytest.fixture
def plugin_alone(confcom, cluster):
    """Two nodes with SGX hardware whose release has no quote helper."""
    cluster.objects = [one for one in cluster.objects if one["kind"] != "Node"]
    cluster.objects += [make.node(name, make.HARDWARE) for name in ("m1", "m2")]
    confcom.ok("enable", "--no-quote-helper")
    return cluster


@pytest.mark.parametrize("command", ["enable", "update"])
def test_epc_that_will_be_set_aside_is_told_before(confcom, plugin_alone, command):
    plugin_alone.node("m2")["status"]["allocatable"][EPC] = "28"
    plugin_alone.calls.clear()
    options = ("--set", "quoteHelper.enabled=true", *WITH_AESMD, "--dry-run")
    document = confcom.document(command, *options)
    found = warnings(document)[SET_ASIDE]
    assert "6 MiB" in found["what"]
    assert "on m2" in found["why"]
    assert "22 MiB of 28" in found["why"]
    assert "quoteHelper.enabled=false" in found["do"]
    assert not plugin_alone.changes


def test_epc_that_will_be_held_back_is_told_before(confcom, plugin_alone):
    plugin_alone.accountings["m2"] = {"found": 300_000}
    assert "on m2" in warnings(confcom.document("enable", "--no-quote-helper", "--dry-run"))["epc-held-back"]["what"]
    plugin_alone.silent_plugins.add("m2")
    assert "epc-held-back" not in warnings(confcom.document("enable", "--no-quote-helper", "--dry-run"))


def test_it_is_told_of_nodes_that_offer_nothing_now(confcom, plugin_alone):
    for name in ("m1", "m2"):
        plugin_alone.node(name)["status"]["allocatable"][EPC] = "0"
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run"))[SET_ASIDE]
    assert "6 MiB" in found["what"]


def test_it_is_told_once_and_for_hardware_alone(confcom, plugin_alone):
    confcom.ok("enable", "--quote-helper", *WITH_AESMD)
    plugin_alone.objects.append(make.node("s", make.SIMULATED))
    assert SET_ASIDE not in warnings(confcom.document("update", "--set", "logLevel=debug"))
    assert SET_ASIDE not in warnings(confcom.document("enable", "--simulated", "--beside-hardware"))


def test_more_than_before_is_told_with_the_difference(confcom, plugin_alone):
    confcom.ok("enable", "--quote-helper", *WITH_AESMD)
    found = warnings(confcom.document("update", "--set", "quoteHelper.epcMiB=5", "--dry-run"))[SET_ASIDE]
    assert "10 MiB" in found["what"]
    assert "4 MiB" in found["what"]


def test_a_first_installation_and_a_stored_choice_set_nothing_aside_unawares(confcom, on_hardware):
    assert on_hardware.revisions[0]["values"]["quoteHelper"]["aesmd"]
    confcom.ok("enable", "--no-quote-helper")
    assert SET_ASIDE not in warnings(confcom.document("update", "--set", "logLevel=debug"))
    assert SET_ASIDE not in warnings(confcom.document("enable"))


def test_simulated_nodes_have_no_such_finding(confcom, enabled):
    found = warnings(confcom.document("update", "--set", "quoteHelper.epcMiB=5"))
    assert not {SET_ASIDE, DIFFERS, UNKNOWN} & set(found)
    assert not [line for line in enabled.calls if any("/proxy/inventory" in word for word in line)]


def test_a_group_that_is_not_set(confcom, plugin_alone):
    plugin_alone.provision_devices = {"m1": device(), "m2": device()}
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run"))[DIFFERS]
    assert GROUP in found["what"]
    assert "106 on m1, m2" in found["what"]
    assert found["do"] == f"--set {GROUP}=106"


def test_a_group_that_fits(confcom, plugin_alone):
    plugin_alone.provision_devices = {"m1": device(), "m2": device()}
    options = ("--quote-helper", *WITH_AESMD, "--set", f"{GROUP}=106")
    assert not {DIFFERS, UNKNOWN} & set(warnings(confcom.document("enable", *options)))


def test_nodes_with_different_groups_are_named(confcom, plugin_alone):
    plugin_alone.provision_devices = {"m1": device(), "m2": device(118)}
    options = ("--quote-helper", *WITH_AESMD, "--set", f"{GROUP}=106")
    found = warnings(confcom.document("enable", *options))[DIFFERS]
    assert "118 on m2" in found["what"]
    assert "106 on" not in found["what"]
    assert "same gid on all nodes" in found["do"]


def test_a_device_of_everybody_needs_no_group(confcom, plugin_alone):
    plugin_alone.provision_devices = {"m1": device(mode="0666"), "m2": device(mode="0666")}
    assert DIFFERS not in warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD))


@pytest.mark.parametrize("closed", [device(0), device(106, "0600")], ids=["group of root", "owner alone"])
def test_a_device_that_no_group_opens_needs_a_rule(confcom, plugin_alone, closed):
    plugin_alone.provision_devices = {"m1": device(), "m2": closed}
    options = ("--quote-helper", *WITH_AESMD, "--set", f"{GROUP}=106", "--dry-run")
    found = warnings(confcom.document("enable", *options))[DIFFERS]
    assert "on m2" in found["what"]
    assert "m1" not in found["what"]
    assert "udev rule" in found["do"]


def test_a_plugin_that_does_not_answer_is_told(confcom, plugin_alone):
    plugin_alone.provision_devices = {"m1": device()}
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--set", f"{GROUP}=106", "--dry-run"))
    assert "m2" in found[UNKNOWN]["what"]
    assert "currently unable" in found[UNKNOWN]["why"]
    assert DIFFERS not in found


def test_who_may_not_ask_is_told(confcom, plugin_alone):
    plugin_alone.denied = {"get pods/proxy"}
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run"))
    assert "pods/proxy" in found[UNKNOWN]["why"]


@pytest.mark.parametrize("told", [{"gid": "x"}, {"gid": 106, "mode": "rw"}, {"gid": None, "mode": "0660"}, {}])
def test_an_inventory_that_nobody_understands_is_no_bug(confcom, plugin_alone, told):
    plugin_alone.provision_devices = {"m1": told, "m2": told}
    assert DIFFERS not in warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run"))


def test_of_many_nodes_some_are_asked(confcom, plugin_alone):
    plugin_alone.objects += [make.node(f"n{number:03}", make.HARDWARE) for number in range(MOST_ASKED)]
    plugin_alone.settle()
    plugin_alone.calls.clear()
    document = confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run", exit_code=ExitCode.OK)
    asked = [line for line in plugin_alone.calls if any("/proxy/inventory" in word for word in line)]
    assert len(asked) == MOST_ASKED
    assert UNKNOWN in warnings(document)


def test_a_plugin_that_is_not_ready_is_not_asked(confcom, plugin_alone):
    for pod in plugin_alone.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()
    assert not {DIFFERS, UNKNOWN} & set(
        warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run"))
    )

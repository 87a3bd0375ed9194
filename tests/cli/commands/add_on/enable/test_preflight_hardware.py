"""Preflight of quotes on SGX hardware: EPC that is set aside, and the group of the provision device."""

import pytest

from confcom.addon.cluster.kubectl import MOST_ASKED
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


def test_it_is_told_once_and_for_hardware_alone(confcom, plugin_alone):
    for name in ("m1", "m2"):  # which offer nothing now
        plugin_alone.node(name)["status"]["allocatable"][EPC] = "0"
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD))[SET_ASIDE]
    assert "6 MiB" in found["what"]
    plugin_alone.objects.append(make.node("s", make.SIMULATED))
    assert SET_ASIDE not in warnings(confcom.document("update", "--set", "logLevel=debug"))
    assert SET_ASIDE not in warnings(confcom.document("enable", "--simulated", "--beside-hardware"))
    found = warnings(confcom.document("update", "--set", "quoteHelper.epcMiB=5", "--dry-run"))[SET_ASIDE]
    assert "10 MiB" in found["what"]
    assert "4 MiB" in found["what"]


SAYS_106 = ("--set", f"{GROUP}=106")
ROOTS, OWNERS, OPEN = device(0), device(106, "0600"), device(mode="0666")


@pytest.mark.parametrize(
    "row",
    [
        (device(), device(), (), f"{GROUP} 106 on m1, m2", f"--set {GROUP}=106"),
        (device(), device(), SAYS_106, None, ""),
        (device(), device(118), SAYS_106, "118 on m2", "same gid on all nodes"),
        (OPEN, OPEN, (), None, ""),
        (device(), ROOTS, SAYS_106, "on m2", "udev rule"),
        (device(), OWNERS, SAYS_106, "on m2", "udev rule"),
        *(
            (told, told, (), None, "")  # nobody understands it
            for told in ({"gid": "x"}, {"gid": 106, "mode": "rw"}, {"gid": None, "mode": "0660"}, {})
        ),
    ],
)
def test_the_group_of_the_provision_device(confcom, plugin_alone, row):
    first, second, options, what, do = row
    plugin_alone.provision_devices = {"m1": first, "m2": second}
    found = warnings(confcom.document("enable", "--quote-helper", *WITH_AESMD, *options, "--dry-run"))
    if what is None:
        assert DIFFERS not in found
        return
    assert all(part in found[DIFFERS]["what"] for part in what.split(" ", 1))
    assert ("m1" in found[DIFFERS]["what"]) is ("m1" in what)
    assert do in found[DIFFERS]["do"]


def test_plugins_that_do_not_tell_the_group(confcom, plugin_alone):
    asks = ("enable", "--quote-helper", *WITH_AESMD, *SAYS_106, "--dry-run")
    plugin_alone.provision_devices = {"m1": device()}
    found = warnings(confcom.document(*asks))
    assert "m2" in found[UNKNOWN]["what"]
    assert "currently unable" in found[UNKNOWN]["why"]
    assert DIFFERS not in found
    plugin_alone.denied = {"get pods/proxy"}
    assert "pods/proxy" in warnings(confcom.document(*asks))[UNKNOWN]["why"]
    for pod in plugin_alone.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()
    assert not {DIFFERS, UNKNOWN} & set(warnings(confcom.document(*asks)))


def test_of_many_nodes_some_are_asked(confcom, plugin_alone):
    plugin_alone.objects += [make.node(f"n{number:03}", make.HARDWARE) for number in range(MOST_ASKED)]
    plugin_alone.settle()
    plugin_alone.calls.clear()
    document = confcom.document("enable", "--quote-helper", *WITH_AESMD, "--dry-run")
    asked = [line for line in plugin_alone.calls if any("/proxy/inventory" in word for word in line)]
    assert len(asked) == MOST_ASKED
    assert UNKNOWN in warnings(document)

"""What `confcom status` says of nodes and their daemons, on a cluster in memory: what it reads for that."""

import copy

from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import HELPER_EPC, PROVISION


def codes(problems):
    """With the node of each; it is empty for the whole cluster."""
    return [(one["node"], one["code"]) for one in problems]


def test_a_helper_that_cannot_quote_says_why(confcom, enabled):
    helper = enabled.daemon("quote-helper")
    helper["status"] = make.not_ready()
    enabled.logs[helper["metadata"]["name"]] = (
        '{"level": "info", "message": "started"}\n'
        '{"level": "warning", "message": "not ready", "about": "readiness", "reason": "the state is damaged"}\n'
        '{"level": "warning", "message": "malformed request", "reason": "what a tenant sent"}\n'
    )
    assert confcom.problem("daemon-not-ready", node="a").endswith(": the state is damaged")
    (node,) = confcom.unwell()["nodes"]
    (daemon,) = node["quote_helper"]
    assert (node["provision_device"], daemon["state"]) == ("yes", "not ready")
    assert daemon["reason"].endswith("the state is damaged")


def test_the_provision_device(confcom, enabled):
    def told():
        return confcom.unwell()["nodes"][0]["provision_device"]

    helper = enabled.daemon("quote-helper")
    helper["status"] = make.unschedulable(f"0/2 nodes are available: 1 Insufficient {PROVISION}")
    assert told() == "waiting"
    helper["status"] = make.rejected()
    assert told() == "waiting"
    helper["spec"]["containers"][0]["resources"] = {"limits": {HELPER_EPC: 3}}
    assert told() == "not requested"
    enabled.objects.remove(helper)
    assert told() == "no helper"


UPDATE = "An update is in progress."


def test_an_update_in_progress(confcom, enabled):
    enabled.lasting = True
    confcom("update", "--version", "0.2.0", "--no-wait")
    assert confcom.unwell()["update_in_progress"] is True
    assert UPDATE in confcom("status").stdout.splitlines()


def test_what_is_ready_and_not_yet_available_is_named(confcom, enabled):
    (plugins,) = enabled.find("DaemonSet", "confcom-device-plugin")
    plugins["status"]["numberAvailable"] = 0
    assert "confcom-device-plugin" in confcom.problem("pods-not-available")


def another(cluster, component, name, *, age, revision="", status=None):
    """A Pod beside, or in place of, the one that a daemon has."""
    pod = copy.deepcopy(cluster.daemon(component))
    pod["metadata"] |= {"name": name, "uid": name, "creationTimestamp": f"2026-11-25T00:00:{59 - age}Z"}
    pod["metadata"]["labels"]["controller-revision-hash"] += revision
    pod["status"] = status or make.rejected()
    return pod


def test_a_rejected_pod_that_was_replaced_is_nothing_wrong(confcom, enabled):
    enabled.daemon("quote-helper")["metadata"]["creationTimestamp"] = "2026-11-25T00:00:30Z"
    enabled.objects += [another(enabled, "quote-helper", f"x{age}", age=age) for age in (9, 29, 40)]
    enabled.objects.append(another(enabled, "quote-helper", "undone", age=0, revision="-new"))
    (node,) = confcom.document("status")["nodes"]
    assert sorted(one["state"] for one in node["quote_helper"]) == ["ready", *["rejected"] * 4]
    assert "rejected 0.1.0 (4), ready 0.1.0  yes" in confcom("status").stdout
    (daemon,) = enabled.find("DaemonSet", "confcom-quote-helper")
    daemon["status"]["updatedNumberScheduled"] = 0  # the newest is of an update that is going on
    problem = confcom.problem("daemon-not-ready", node="a")
    assert "undone is rejected: UnexpectedAdmissionError: no healthy devices" in problem


def only(effect="NoSchedule", key="sgx"):
    return {"key": key, "value": "only", "effect": effect}


TOLERATE = "--set tolerations[{0}].key={1} --set tolerations[{0}].operator=Exists"


def test_a_taint_that_keeps_the_daemons_off_is_named(confcom, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    enabled.node("a")["spec"]["taints"] = [only()]  # where they run already
    problem = confcom.problem("node-tainted", node="c")
    assert "sgx=only:NoSchedule" in problem
    assert "the daemons" in problem
    assert commands_in(problem) == [f"confcom update {TOLERATE.format(0, 'sgx')}"]
    enabled.node("c")["spec"]["taints"] += [only("NoExecute"), only(key="gpu"), only("PreferNoSchedule", "soft")]
    problem = confcom.problem("node-tainted", node="c")
    assert "sgx=only:NoSchedule, sgx=only:NoExecute, gpu=only:NoSchedule, " in problem
    both = f"confcom update {TOLERATE.format(0, 'sgx')} {TOLERATE.format(1, 'gpu')}"
    assert commands_in(problem) == [both]
    enabled.node("c")["spec"]["taints"] = [only(key="node.kubernetes.io/disk-pressure")]
    assert codes(confcom.problems()) == [("c", "daemon-missing")] * 2


def test_what_is_tolerated_already_stays_so(confcom, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    plugins, helpers = (one["spec"]["template"]["spec"] for one in enabled.find("DaemonSet"))
    plugins["tolerations"] = helpers["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    assert commands_in(confcom.problem("node-tainted", node="c")) == [f"confcom update {TOLERATE.format(1, 'sgx')}"]
    plugins["tolerations"] = [{"operator": "Exists"}]
    taint, plugin = confcom.problems()
    assert codes([taint, plugin]) == [("c", "node-tainted"), ("c", "daemon-missing")]
    assert "the quote helper" in taint["problem"]
    assert "device plugin" in plugin["problem"]

"""What `confcom status` says of nodes and their daemons, on a cluster in memory."""

import copy
import subprocess

import pytest

from confcom.addon.cluster.kubectl import LOG_SECONDS
from confcom.addon.cluster.snapshot_reader import MOST_LOGS
from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import HELPER_EPC, PROVISION, SYSTEM


def codes(problems):
    """With the node of each; it is empty for the whole cluster."""
    return [(one["node"], one["code"]) for one in problems]


def test_a_kubelet_is_down(confcom, enabled):
    enabled.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    assert confcom.problem("node-not-ready", node="a").endswith(": Kubelet stopped posting")


def test_the_plugin_is_down(confcom, enabled):
    enabled.objects.remove(enabled.daemon("device-plugin"))
    enabled._kubelet(enabled.node("a"))
    problems = confcom.problems()
    assert codes(problems) == [("a", "daemon-missing"), ("a", "epc-not-offered")]
    assert "162 MiB" in problems[1]["problem"]


def test_the_helper_is_down(confcom, enabled):
    helper = enabled.daemon("quote-helper")
    ended = {"exitCode": 6, "message": "Error: the socket cannot be made why: No space left on device"}
    helper["status"] = make.waiting("CrashLoopBackOff", "back-off 20s", ended=ended, restarts=3)
    problem = confcom.problem("daemon-not-ready", node="a")
    (node,) = confcom.unwell()["nodes"]
    assert (node["provision_device"], node["quote_helper"][0]["state"]) == ("yes", "failing")
    reason = "CrashLoopBackOff: exit code 6, 3 restarts: Error: the socket cannot be made why: No space left on device"
    assert node["quote_helper"][0]["reason"] == reason
    assert problem.endswith(reason)


def test_a_helper_that_cannot_quote_says_why(confcom, enabled):
    helper = enabled.daemon("quote-helper")
    helper["status"] = make.not_ready()
    enabled.logs[helper["metadata"]["name"]] = (
        '{"level": "info", "message": "started"}\n'
        '{"level": "warning", "message": "not ready", "about": "readiness", "reason": "the state is damaged"}\n'
        '{"level": "warning", "message": "malformed request", "reason": "what a tenant sent"}\n'
    )
    assert confcom.problem("daemon-not-ready", node="a").endswith(": the state is damaged")


def asked_for_logs(cluster):
    return [line[-1] for line in cluster.calls if line[1] == "logs"]


def test_a_dead_nodes_pods_are_not_asked_for_their_logs(confcom, enabled):
    helper = enabled.daemon("quote-helper")
    helper["status"] = make.not_ready()
    enabled.calls.clear()
    assert confcom.problems()
    assert asked_for_logs(enabled) == [helper["metadata"]["name"]]
    enabled.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    enabled.calls.clear()
    assert codes(confcom.problems())[0] == ("a", "node-not-ready")
    assert not asked_for_logs(enabled)


def test_of_many_pods_that_fail_some_are_asked(confcom, enabled):
    for number in range(30):
        enabled.objects.append(make.node(f"n{number}", make.SIMULATED))
    enabled.settle()
    for pod in enabled.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()
    enabled.calls.clear()
    assert confcom.problems()
    assert len(asked_for_logs(enabled)) == MOST_LOGS


def test_a_log_that_does_not_come_is_done_without(confcom, enabled, monkeypatch):
    helper = enabled.daemon("quote-helper")
    helper["status"] = make.not_ready()
    given = []

    def silent(words, flags, stdin):
        raise subprocess.TimeoutExpired("kubectl", given[-1])

    def timed(arguments, /, *, stdin=None, timeout=60.0, **more):
        given.append(timeout)
        return FakeCluster.run(enabled, arguments, stdin=stdin, timeout=timeout, **more)

    monkeypatch.setattr(enabled, "_kubectl_logs", silent, raising=False)
    monkeypatch.setattr(enabled, "run", timed, raising=False)
    assert confcom.problem("daemon-not-ready", node="a").endswith("containers with unready status: [main]")
    assert min(given) == LOG_SECONDS


def test_the_provision_device(confcom, enabled):
    def told():
        return confcom.unwell()["nodes"][0]["provision_device"]

    helper = enabled.daemon("quote-helper")
    helper["status"] = make.unschedulable(f"0/2 nodes are available: 1 Insufficient {PROVISION}")
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


def killed(cluster):
    helper = cluster.daemon("quote-helper")
    helper["status"] = make.waiting("CrashLoopBackOff", "back-off 10s", ended={"exitCode": 137}, restarts=1)


def switched_off(cluster):
    cluster.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    for pod in cluster.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()


@pytest.mark.parametrize("fault", [killed, switched_off])
def test_what_fails_is_no_update(confcom, enabled, fault):
    fault(enabled)
    for one in enabled.find("DaemonSet"):
        one["status"]["numberAvailable"] = 0
    assert confcom.problems()
    assert UPDATE not in confcom("status").stdout
    assert confcom.unwell()["update_in_progress"] is False


def test_what_is_ready_and_not_yet_available_is_named(confcom, enabled):
    (plugins,) = enabled.find("DaemonSet", "confcom-device-plugin")
    plugins["status"]["numberAvailable"] = 0
    assert "confcom-device-plugin" in confcom.problem("pods-not-available")


def test_a_daemon_set_that_cannot_make_pods(confcom, enabled):
    (daemons,) = enabled.find("DaemonSet", "confcom-quote-helper")
    enabled.objects.remove(enabled.daemon("quote-helper"))
    daemons["status"] |= {"currentNumberScheduled": 0, "updatedNumberScheduled": 0, "numberAvailable": 0}
    message = 'pods "confcom-quote-helper-" is forbidden: violates PodSecurity "baseline:latest"'
    enabled.objects.append(make.event("confcom-quote-helper", "FailedCreate", message))
    problems = confcom.problems()
    assert codes(problems) == [("", "pods-not-created"), ("a", "daemon-missing")]
    assert "confcom-quote-helper" in problems[0]["problem"]
    assert problems[0]["problem"].endswith(f"FailedCreate: {message}")
    assert confcom.unwell()["update_in_progress"] is False


LOW = "The node was low on resource: ephemeral-storage"


def test_pods_that_the_kubelet_evicted_say_why(confcom, enabled):
    names = {}
    for component in ("device-plugin", "quote-helper"):
        pod = enabled.daemon(component)
        names[component] = pod["metadata"]["name"]
        pod["status"] = make.rejected(LOW, "Evicted")
    pressed = {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"}
    for node in ("a", "b"):
        enabled.node(node)["status"]["conditions"].append(pressed)
    pressure, plugin, helper, *others = confcom.problems()
    assert codes([pressure, plugin, helper]) == [("a", "node-pressure"), *[("a", "daemon-missing")] * 2]
    for problem, component in ((plugin, "device-plugin"), (helper, "quote-helper")):
        assert names[component] in problem["problem"]
        assert problem["problem"].endswith(f"rejected: Evicted: {LOW}")
    assert {one["node"] for one in others} <= {"a"}


@pytest.mark.parametrize("pressure", ["DiskPressure", "MemoryPressure", "PIDPressure"])
def test_a_nodes_pressure_is_named_while_it_lasts(confcom, enabled, pressure):
    condition = {"type": pressure, "status": "True"}
    enabled.node("a")["status"]["conditions"].append(condition)
    assert pressure in confcom.problem("node-pressure", node="a")
    for other in ("False", "Unknown"):  # which it is once the kubelet has stopped reporting
        condition["status"] = other
        confcom.ok("status")


def another(cluster, component, name, *, age, revision="", status=None):
    """A Pod beside, or in place of, the one that a daemon has."""
    pod = copy.deepcopy(cluster.daemon(component))
    pod["metadata"] |= {"name": name, "uid": name, "creationTimestamp": f"2026-11-25T00:00:{59 - age}Z"}
    pod["metadata"]["labels"]["controller-revision-hash"] += revision
    pod["status"] = status or make.rejected()
    return pod


def test_of_several_rejected_pods_the_newest_says_why(confcom, enabled):
    newest = another(enabled, "quote-helper", "h2", age=2, status=make.rejected("newest"))
    older = another(enabled, "quote-helper", "h1", age=9, status=make.rejected("older"))
    enabled.objects.remove(enabled.daemon("quote-helper"))
    enabled.objects += [newest, older]
    problem = confcom.problem("daemon-missing", node="a")
    assert problem.endswith("h2 is rejected: UnexpectedAdmissionError: newest")
    newest["status"] = {"phase": "Failed"}
    assert confcom.problem("daemon-missing", node="a").endswith("h2 is rejected")


def test_a_helper_that_the_kubelet_rejected_has_no_provision_device(confcom, enabled):
    enabled.daemon("quote-helper")["status"] = make.rejected()
    (node,) = confcom.unwell()["nodes"]
    assert (node["provision_device"], node["quote_helper"][0]["state"]) == ("waiting", "rejected")


def test_a_rejected_pod_that_was_replaced_is_nothing_wrong(confcom, enabled):
    enabled.daemon("quote-helper")["metadata"]["creationTimestamp"] = "2026-11-25T00:00:30Z"
    enabled.objects += [another(enabled, "quote-helper", f"x{age}", age=age) for age in (9, 29, 40)]
    (node,) = confcom.document("status")["nodes"]
    assert sorted(one["state"] for one in node["quote_helper"]) == ["ready", *["rejected"] * 3]
    assert "rejected 0.1.0 (3), ready 0.1.0  yes" in confcom("status").stdout


def test_the_new_pod_of_an_update_that_is_rejected_says_why(confcom, enabled):
    enabled.objects.append(another(enabled, "quote-helper", "new", age=0, revision="-new"))
    (daemon,) = enabled.find("DaemonSet", "confcom-quote-helper")
    daemon["status"]["updatedNumberScheduled"] = 0
    problem = confcom.problem("daemon-not-ready", node="a")
    assert "new is rejected: UnexpectedAdmissionError: no healthy devices" in problem


def test_what_is_left_of_an_update_that_was_undone_is_nothing_wrong(confcom, enabled):
    enabled.objects.append(another(enabled, "quote-helper", "new", age=0, revision="-new"))
    confcom.ok("status")


def only(effect="NoSchedule", key="sgx"):
    return {"key": key, "value": "only", "effect": effect}


TOLERATE = "--set tolerations[{0}].key={1} --set tolerations[{0}].operator=Exists"


def test_a_chosen_node_whose_taint_keeps_the_daemons_off_is_named_with_it(confcom, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
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
    for one in enabled.find("DaemonSet"):
        one["spec"]["template"]["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    assert commands_in(confcom.problem("node-tainted", node="c")) == [f"confcom update {TOLERATE.format(1, 'sgx')}"]


def test_a_taint_that_one_of_the_daemons_tolerates(confcom, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    (plugins,) = enabled.find("DaemonSet", "confcom-device-plugin")
    plugins["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    taint, plugin = confcom.problems()
    assert codes([taint, plugin]) == [("c", "node-tainted"), ("c", "daemon-missing")]
    assert "the quote helper" in taint["problem"]
    assert "device plugin" in plugin["problem"]


def test_daemons_that_run_on_a_node_that_is_tainted_later_are_nothing_wrong(confcom, enabled):
    enabled.node("a")["spec"]["taints"] = [only()]
    confcom.ok("status")

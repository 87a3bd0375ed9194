"""`confcom status` on a cluster in memory."""

import copy
import json
import re
import subprocess
from itertools import product

import pytest

from confcom.addon.cluster.kubectl import LOG_SECONDS
from confcom.addon.cluster.snapshot_reader import MOST_LOGS
from confcom.errors import ExitCode
from testkit.cli_output import commands_in, error_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import POLICY
from testkit.fake_cluster.cluster import FakeCluster, default_chart, name_of, words_and_flags
from testkit.fake_cluster.objects import EPC, HELPER_EPC, PROVISION, SYSTEM


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


@pytest.fixture
def wrong(confcom):
    """The problems that status reports; each is told as text too."""

    def call():
        done = confcom("status", "-o", "json")
        assert done.exit_code == ExitCode.NOT_READY
        document = json.loads(done.stdout)
        assert len(document["problems"]) == len(document["problem_details"])
        return document["problem_details"]

    return call


WELL = "All is well."
"""The last line, if it is so."""


def codes(problems):
    """With the node of each; it is empty for the whole cluster."""
    return [(one["node"], one["code"]) for one in problems]


def daemon(cluster, component):
    (found,) = [pod for pod in cluster.find("Pod", namespace=SYSTEM) if component in pod["metadata"]["name"]]
    return found


def test_the_table(confcom, enabled):
    enabled.objects.append(make.pod("app", on="a", limits={EPC: "10"}))
    done = confcom("status")
    assert done.exit_code == ExitCode.OK
    assert done.stdout.splitlines() == [
        "confcom 0.1.0 in confcom-system, on a SIMULATED platform: its quotes prove nothing about hardware",
        "",
        "NODE  SGX        EPC MiB  USED  DEVICE PLUGIN  QUOTE HELPER  PROVISION",
        "a     simulated  162      10    ready 0.1.0    ready 0.1.0   yes",
        "1 more without SGX",
        "",
        WELL,
    ]


def test_json(confcom, enabled):
    document = json.loads(confcom("status", "--output", "json").stdout)
    plugin, helper = daemon(enabled, "device-plugin"), daemon(enabled, "quote-helper")
    assert document == {
        "enabled": True,
        "ok": True,
        "namespace": SYSTEM,
        "version": "0.1.0",
        "simulated": True,
        "update_in_progress": False,
        "nodes": [
            {
                "name": "a",
                "sgx": "simulated",
                "ready": True,
                "epc": {"resource": EPC, "capacity_mib": 162, "allocatable_mib": 162, "used_mib": 0},
                "device_plugin": [
                    {
                        "pod": plugin["metadata"]["name"],
                        "state": "ready",
                        "reason": "",
                        "version": "0.1.0",
                        "image": "registry.test/confcom/device-plugin:0.1.0",
                    }
                ],
                "quote_helper": [
                    {
                        "pod": helper["metadata"]["name"],
                        "state": "ready",
                        "reason": "",
                        "version": "0.1.0",
                        "image": "registry.test/confcom/quote-helper:0.1.0",
                    }
                ],
                "provision_device": "yes",
                "problems": [],
            }
        ],
        "nodes_without_sgx": 1,
        "nodes_well": [
            {
                "sgx": "simulated",
                "nodes": 1,
                "epc": {"resource": EPC, "capacity_mib": 162, "allocatable_mib": 162, "used_mib": 0},
                "device_plugin": {"0.1.0": 1},
                "quote_helper": {"0.1.0": 1},
                "provision_device": {"yes": 1},
            }
        ],
        "workloads": [],
        "problems": [],
        "problem_details": [],
        "problem_groups": [],
        "drift": [],
        "not_compared": [],
        "not_compared_details": [],
    }


def test_not_enabled(confcom, wrong, cluster):
    (here,) = wrong()
    assert (here["node"], here["code"]) == ("", "not-enabled")
    assert SYSTEM in here["problem"]
    cluster.objects.append(make.daemon_set("device-plugin", namespace="sgx"))
    (elsewhere,) = wrong()
    assert (elsewhere["node"], elsewhere["code"]) == ("", "not-enabled")
    assert "sgx" in elsewhere["problem"].replace(SYSTEM, "").split()
    assert "--namespace" in elsewhere["problem"]


def test_a_change_that_was_not_made(wrong, cluster, confcom):
    cluster.objects.append(make.failed_hook("confcom-simulated-root-1", "DeadlineExceeded", "it was too slow"))
    job, enabled = wrong()
    assert (job["code"], enabled["code"]) == ("hook-job-failed", "not-enabled")
    assert " confcom-simulated-root-1 " in job["problem"]
    assert "(DeadlineExceeded: it was too slow)" in job["problem"]
    assert commands_in(job["problem"]) == ["confcom enable"]
    others = make.failed_hook("confcom-simulated-root-2", "DeadlineExceeded", "", namespace="default")
    cluster.objects += [others, make.failed_hook("mine", "BackoffLimitExceeded", "", labels={})]
    confcom("enable", "--simulated")
    cluster.objects.append(make.failed_hook("confcom-simulated-root-1", "BackoffLimitExceeded", ""))
    (job,) = wrong()
    assert job["code"] == "hook-job-failed"
    assert "(BackoffLimitExceeded)" in job["problem"]
    assert commands_in(job["problem"]) == ["confcom rollback"]


def test_what_another_vendor_offers_is_no_leftover(wrong, cluster):
    cluster.objects.append(make.node("vendor", resources={PROVISION: 110}))
    cluster.objects.append(make.node("aks", resources={EPC: 28}))
    assert codes(wrong()) == [("", "not-enabled")]


@pytest.fixture
def with_policy(confcom, cluster):
    def chart(values):
        rendered = default_chart(values)
        for one in rendered:
            if one["kind"] == "DaemonSet":
                one["metadata"]["annotations"] = {"confcom.internal/admission-policy": "confcom-provision"}
        return rendered

    cluster.chart = chart
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


@pytest.mark.parametrize(
    "kinds",
    [
        {"ValidatingAdmissionPolicyBinding"},
        {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
    ],
    ids=len,
)
def test_an_admission_policy_that_somebody_removed(confcom, wrong, with_policy, kinds):
    assert confcom("status").exit_code == ExitCode.OK
    with_policy.objects = [
        one for one in with_policy.objects if (one["kind"], one["metadata"]["name"]) not in product(kinds, [POLICY])
    ]
    (problem,) = wrong()
    assert problem["code"] == "policy-missing"
    assert set(re.findall(r"\bValidatingAdmissionPolicy\w*", problem["problem"])) == kinds
    assert POLICY in problem["problem"]
    with_policy.denied = {"list validatingadmissionpolicy", "list secrets"}
    assert confcom("status").exit_code == ExitCode.OK
    with_policy.denied = set()
    assert commands_in(problem["problem"]) == ["confcom enable"]
    assert confcom("enable").exit_code == ExitCode.OK
    assert confcom("status").exit_code == ExitCode.OK


def test_a_policy_that_was_not_installed_is_not_missed(confcom, cluster):
    assert confcom("enable", "--simulated", "--set", "provision.policy=false").exit_code == ExitCode.OK
    assert not [one for one in cluster.objects if one["metadata"]["name"] == POLICY]
    assert confcom("status").exit_code == ExitCode.OK


def test_dead_names_of_simulation_beside_hardware_do_no_harm(confcom, enabled):
    for part in ("capacity", "allocatable"):
        enabled.node("a")["status"][part]["simulated.confcom.internal/sgx_epc_mem_in_MiB"] = "0"
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.stdout
    assert json.loads(done.stdout)["nodes"][0]["epc"]["resource"] == EPC


def test_what_an_earlier_installation_left(wrong, cluster):
    cluster.node("a")["status"]["capacity"][EPC] = "0"
    assert codes(wrong()) == [("", "not-enabled"), ("a", "resources-left")]


def test_a_selector_of_ones_own(confcom, cluster):
    cluster.node("b")["metadata"]["labels"]["example.com/sgx"] = "yes"
    cluster.chart = lambda _: [make.daemon_set("device-plugin", {"example.com/sgx": "yes"}, args=())]
    assert confcom("enable", "--no-quote-helper").exit_code == ExitCode.OK
    (node,) = [one for one in json.loads(confcom("status", "-o", "json").stdout)["nodes"] if one["name"] == "b"]
    assert (node["sgx"], node["provision_device"], node["problems"]) == ("hardware", "no helper", [])


def test_the_api_server_is_away(confcom, enabled):
    enabled.away = True
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert error_of(done)["code"] == "cluster-request-failed"


def test_a_login_page_in_the_api_servers_place(confcom, enabled):
    enabled._kubectl_get = lambda *_: (0, "<html>\n<title>Sign in</title>\n", "")
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    error = error_of(done)
    assert error["code"] == "output-not-readable"
    assert error["why"].endswith(": <html> <title>Sign in</title>")
    assert ": kubectl " in error["do"]


def test_lists_that_are_null_are_empty(wrong, enabled):
    enabled._kubectl_get = lambda *_: (0, '{"kind": "List", "items": null}', "")
    assert ("", "not-enabled") in codes(wrong())


def test_a_kubelet_is_down(wrong, enabled):
    enabled.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "node-not-ready")
    assert problem["problem"].endswith(": Kubelet stopped posting")


def test_the_plugin_is_down(wrong, enabled):
    enabled.objects.remove(daemon(enabled, "device-plugin"))
    enabled._kubelet(enabled.node("a"))
    problems = wrong()
    assert codes(problems) == [("a", "daemon-missing"), ("a", "epc-not-offered")]
    assert "162 MiB" in problems[1]["problem"]


def test_the_helper_is_down(confcom, wrong, enabled):
    helper = daemon(enabled, "quote-helper")
    ended = {"exitCode": 6, "message": "Error: the socket cannot be made why: No space left on device"}
    helper["status"] = make.waiting("CrashLoopBackOff", "back-off 20s", ended=ended, restarts=3)
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "daemon-not-ready")
    (node,) = json.loads(confcom("status", "-o", "json").stdout)["nodes"]
    assert (node["provision_device"], node["quote_helper"][0]["state"]) == ("yes", "failing")
    reason = "CrashLoopBackOff: exit code 6, 3 restarts: Error: the socket cannot be made why: No space left on device"
    assert node["quote_helper"][0]["reason"] == reason
    assert problem["problem"].endswith(reason)


def test_a_helper_that_cannot_quote_says_why(wrong, enabled):
    helper = daemon(enabled, "quote-helper")
    helper["status"] = make.not_ready()
    enabled.logs[helper["metadata"]["name"]] = (
        '{"level": "info", "message": "started"}\n'
        '{"level": "warning", "message": "not ready", "about": "readiness", "reason": "the state is damaged"}\n'
        '{"level": "warning", "message": "malformed request", "reason": "what a tenant sent"}\n'
    )
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "daemon-not-ready")
    assert problem["problem"].endswith(": the state is damaged")


def asked_for_logs(cluster):
    return [line[-1] for line in cluster.calls if line[1] == "logs"]


def test_a_dead_nodes_pods_are_not_asked_for_their_logs(wrong, enabled):
    helper = daemon(enabled, "quote-helper")
    helper["status"] = make.not_ready()
    enabled.calls.clear()
    assert wrong()
    assert asked_for_logs(enabled) == [helper["metadata"]["name"]]
    enabled.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    enabled.calls.clear()
    assert codes(wrong())[0] == ("a", "node-not-ready")
    assert not asked_for_logs(enabled)


def test_of_many_pods_that_fail_some_are_asked(wrong, enabled):
    for number in range(30):
        enabled.objects.append(make.node(f"n{number}", make.SIMULATED))
    enabled.sleep(1)
    enabled.sleep(1)
    for pod in enabled.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()
    enabled.calls.clear()
    assert wrong()
    assert len(asked_for_logs(enabled)) == MOST_LOGS


def test_a_log_that_does_not_come_is_done_without(wrong, enabled, monkeypatch):
    helper = daemon(enabled, "quote-helper")
    helper["status"] = make.not_ready()
    given = []

    def silent(words, flags, stdin):
        raise subprocess.TimeoutExpired("kubectl", given[-1])

    def timed(arguments, /, *, stdin=None, timeout=60.0, **more):
        given.append(timeout)
        return FakeCluster.run(enabled, arguments, stdin=stdin, timeout=timeout, **more)

    monkeypatch.setattr(enabled, "_kubectl_logs", silent, raising=False)
    monkeypatch.setattr(enabled, "run", timed, raising=False)
    (problem,) = wrong()
    assert problem["code"] == "daemon-not-ready"
    assert problem["problem"].endswith("containers with unready status: [main]")
    assert min(given) == LOG_SECONDS


def test_the_provision_device(confcom, enabled):
    def told():
        return json.loads(confcom("status", "-o", "json").stdout)["nodes"][0]["provision_device"]

    helper = daemon(enabled, "quote-helper")
    assert told() == "yes"
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
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    assert json.loads(done.stdout)["update_in_progress"] is True
    assert UPDATE in confcom("status").stdout.splitlines()


def killed(cluster):
    helper = daemon(cluster, "quote-helper")
    helper["status"] = make.waiting("CrashLoopBackOff", "back-off 10s", ended={"exitCode": 137}, restarts=1)


def switched_off(cluster):
    cluster.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "Kubelet stopped posting"}
    for pod in cluster.find("Pod", namespace=SYSTEM):
        pod["status"] = make.not_ready()


@pytest.mark.parametrize("fault", [killed, switched_off])
def test_what_fails_is_no_update(confcom, wrong, enabled, fault):
    fault(enabled)
    for one in enabled.find("DaemonSet"):
        one["status"]["numberAvailable"] = 0
    assert wrong()
    assert UPDATE not in confcom("status").stdout
    assert json.loads(confcom("status", "-o", "json").stdout)["update_in_progress"] is False


@pytest.mark.parametrize("seconds", [None, 5])
def test_what_is_ready_and_not_yet_available_is_named(wrong, enabled, seconds):
    (plugins,) = enabled.find("DaemonSet", "confcom-device-plugin")
    plugins["status"]["numberAvailable"] = 0
    if seconds:  # as in a revision of a chart that has it
        manifests = enabled.revisions[-1]["manifests"]
        (manifest,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == name_of(plugins)]
        plugins["spec"]["minReadySeconds"] = manifest["spec"]["minReadySeconds"] = seconds
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("", "pods-not-available")
    assert "confcom-device-plugin" in problem["problem"]
    assert (f" {seconds} s" in problem["problem"]) is (seconds is not None)


def test_a_daemon_set_that_cannot_make_pods(confcom, wrong, enabled):
    (daemons,) = enabled.find("DaemonSet", "confcom-quote-helper")
    enabled.objects.remove(daemon(enabled, "quote-helper"))
    daemons["status"] |= {"currentNumberScheduled": 0, "updatedNumberScheduled": 0, "numberAvailable": 0}
    message = 'pods "confcom-quote-helper-" is forbidden: violates PodSecurity "baseline:latest"'
    enabled.objects.append(make.event("confcom-quote-helper", "FailedCreate", message))
    problems = wrong()
    assert codes(problems) == [("", "pods-not-created"), ("a", "daemon-missing")]
    assert "confcom-quote-helper" in problems[0]["problem"]
    assert problems[0]["problem"].endswith(f"FailedCreate: {message}")
    assert json.loads(confcom("status", "-o", "json").stdout)["update_in_progress"] is False


LOW = "The node was low on resource: ephemeral-storage"


def test_pods_that_the_kubelet_evicted_say_why(wrong, enabled):
    names = {}
    for component in ("device-plugin", "quote-helper"):
        pod = daemon(enabled, component)
        names[component] = pod["metadata"]["name"]
        pod["status"] = make.rejected(LOW, "Evicted")
    pressed = {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"}
    for node in ("a", "b"):
        enabled.node(node)["status"]["conditions"].append(pressed)
    pressure, plugin, helper, *others = wrong()
    assert codes([pressure, plugin, helper]) == [
        ("a", "node-pressure"),
        ("a", "daemon-missing"),
        ("a", "daemon-missing"),
    ]
    for problem, component in ((plugin, "device-plugin"), (helper, "quote-helper")):
        assert names[component] in problem["problem"]
        assert problem["problem"].endswith(f"rejected: Evicted: {LOW}")
    assert {one["node"] for one in others} <= {"a"}


@pytest.mark.parametrize("pressure", ["DiskPressure", "MemoryPressure", "PIDPressure"])
def test_a_nodes_pressure_is_named_while_it_lasts(confcom, wrong, enabled, pressure):
    condition = {"type": pressure, "status": "True"}
    enabled.node("a")["status"]["conditions"].append(condition)
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "node-pressure")
    assert pressure in problem["problem"]
    for other in ("False", "Unknown"):  # which it is once the kubelet has stopped reporting
        condition["status"] = other
        assert confcom("status").exit_code == ExitCode.OK


def another(cluster, component, name, *, age, revision="", status=None):
    """A Pod beside, or in place of, the one that a daemon has."""
    pod = copy.deepcopy(daemon(cluster, component))
    pod["metadata"] |= {"name": name, "uid": name, "creationTimestamp": f"2026-11-25T00:00:{59 - age}Z"}
    pod["metadata"]["labels"]["controller-revision-hash"] += revision
    pod["status"] = status or make.rejected()
    return pod


def test_of_several_rejected_pods_the_newest_says_why(wrong, enabled):
    helper = daemon(enabled, "quote-helper")
    rejected = [
        another(enabled, "quote-helper", name, age=age, status=make.rejected(why))
        for name, age, why in (("h2", 2, "newest"), ("h1", 9, "older"))
    ]
    enabled.objects += rejected
    enabled.objects.remove(helper)
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "daemon-missing")
    assert problem["problem"].endswith("h2 is rejected: UnexpectedAdmissionError: newest")
    rejected[0]["status"] = {"phase": "Failed"}
    (problem,) = wrong()
    assert problem["problem"].endswith("h2 is rejected")


def test_a_helper_that_the_kubelet_rejected_has_no_provision_device(confcom, enabled):
    daemon(enabled, "quote-helper")["status"] = make.rejected()
    (node,) = json.loads(confcom("status", "-o", "json").stdout)["nodes"]
    assert (node["provision_device"], node["quote_helper"][0]["state"]) == ("waiting", "rejected")


def test_a_rejected_pod_that_was_replaced_is_nothing_wrong(confcom, enabled):
    daemon(enabled, "quote-helper")["metadata"]["creationTimestamp"] = "2026-11-25T00:00:30Z"
    enabled.objects += [another(enabled, "quote-helper", f"x{age}", age=age) for age in (9, 29, 40)]
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK
    (node,) = json.loads(done.stdout)["nodes"]
    assert sorted(one["state"] for one in node["quote_helper"]) == ["ready", *["rejected"] * 3]
    assert "rejected 0.1.0 (3), ready 0.1.0  yes" in confcom("status").stdout


def test_the_new_pod_of_an_update_that_is_rejected_says_why(wrong, enabled):
    enabled.objects.append(another(enabled, "quote-helper", "new", age=0, revision="-new"))
    (daemon,) = enabled.find("DaemonSet", "confcom-quote-helper")
    daemon["status"]["updatedNumberScheduled"] = 0
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("a", "daemon-not-ready")
    assert "new is rejected: UnexpectedAdmissionError: no healthy devices" in problem["problem"]


def test_what_is_left_of_an_update_that_was_undone_is_nothing_wrong(confcom, enabled):
    enabled.objects.append(another(enabled, "quote-helper", "new", age=0, revision="-new"))
    assert confcom("status").exit_code == ExitCode.OK


def only(effect="NoSchedule", key="sgx"):
    return {"key": key, "value": "only", "effect": effect}


TOLERATE = "--set tolerations[{0}].key={1} --set tolerations[{0}].operator=Exists"


def test_a_chosen_node_whose_taint_keeps_the_daemons_off_is_named_with_it(wrong, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    (problem,) = wrong()
    assert (problem["node"], problem["code"]) == ("c", "node-tainted")
    assert "sgx=only:NoSchedule" in problem["problem"]
    assert "the daemons" in problem["problem"]
    assert commands_in(problem["problem"]) == [f"confcom update {TOLERATE.format(0, 'sgx')}"]
    enabled.node("c")["spec"]["taints"] += [only("NoExecute"), only(key="gpu"), only("PreferNoSchedule", "soft")]
    (problem,) = wrong()
    assert "sgx=only:NoSchedule, sgx=only:NoExecute, gpu=only:NoSchedule, " in problem["problem"]
    both = f"confcom update {TOLERATE.format(0, 'sgx')} {TOLERATE.format(1, 'gpu')}"
    assert commands_in(problem["problem"]) == [both]
    enabled.node("c")["spec"]["taints"] = [only(key="node.kubernetes.io/disk-pressure")]
    assert codes(wrong()) == [("c", "daemon-missing")] * 2


def test_what_is_tolerated_already_stays_so(wrong, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    for one in enabled.find("DaemonSet"):
        one["spec"]["template"]["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    (problem,) = wrong()
    assert commands_in(problem["problem"]) == [f"confcom update {TOLERATE.format(1, 'sgx')}"]


def test_a_taint_that_one_of_the_daemons_tolerates(wrong, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[only()]))
    (plugins,) = enabled.find("DaemonSet", "confcom-device-plugin")
    plugins["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    taint, plugin = wrong()
    assert codes([taint, plugin]) == [("c", "node-tainted"), ("c", "daemon-missing")]
    assert "the quote helper" in taint["problem"]
    assert "device plugin" in plugin["problem"]


def test_daemons_that_run_on_a_node_that_is_tainted_later_are_nothing_wrong(confcom, enabled):
    enabled.node("a")["spec"]["taints"] = [only()]
    assert confcom("status").exit_code == ExitCode.OK


def test_workloads_that_need_help(confcom, enabled):
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    enabled.objects += [
        make.pod("bare", on="a", limits={EPC: 1}, status=make.rejected()),
        make.pod("job-1", on="a", limits={EPC: 1}, owner=("Job", "job"), status=make.rejected()),
        make.pod("job-2", on="a", limits={EPC: 1}, owner=("Job", "job"), status=make.rejected()),
        {"kind": "Job", "metadata": {"name": "job", "namespace": "default"}, "status": failed},
        make.pod("trying-1", on="a", limits={EPC: 1}, owner=("Job", "trying"), status=make.rejected()),
        {"kind": "Job", "metadata": {"name": "trying", "namespace": "default"}, "status": {}},
        make.pod("deployed-1", on="a", limits={EPC: 1}, owner=("ReplicaSet", "d"), status=make.rejected()),
        make.pod("crashed", on="a", limits={EPC: 1}, status={"phase": "Failed", "reason": "Error"}),
        make.pod("foreign", on="a", limits={"nvidia.com/gpu": 1}, status=make.rejected()),
        make.pod("large", limits={EPC: 200}, status=make.unschedulable(f"0/2 nodes: 1 Insufficient {EPC}.")),
        make.pod("mistaken", limits={EPC: "10Mi"}, status=make.unschedulable(f"0/2 nodes: 1 Insufficient {EPC}.")),
        make.pod("no-cpu", limits={EPC: 1}, status=make.unschedulable("0/2 nodes: 2 Insufficient cpu.")),
    ]
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK
    told = {(one["kind"], one["name"]): one for one in json.loads(done.stdout)["workloads"]}
    assert set(told) == {("Pod", "bare"), ("Job", "job"), ("Pod", "large"), ("Pod", "mistaken")}
    assert told["Pod", "bare"]["code"] == "pod-rejected"
    assert told["Pod", "bare"]["cause"] == "UnexpectedAdmissionError: no healthy devices present"
    assert told["Job", "job"]["code"] == "job-out-of-retries"
    assert told["Job", "job"]["cause"].endswith("(BackoffLimitExceeded)")
    assert (told["Pod", "large"]["trouble"], told["Pod", "large"]["code"]) == ("stuck", "request-too-large")
    assert told["Pod", "mistaken"]["code"] == "unit-mistaken"
    assert "10485760 MiB" in told["Pod", "mistaken"]["remedy"]
    lines = confcom("status").stdout.splitlines()
    assert WELL not in lines
    assert [line for line in lines if "default/bare" in line and line.endswith("no healthy devices present")]


def test_what_a_cluster_says_cannot_forge_a_terminals_lines(confcom, enabled):
    enabled.node("a")["status"]["conditions"][0] |= {"status": "Unknown", "message": "\x1b[2Jgone\nAll is well."}
    done = confcom("status")
    assert "\x1b" not in done.stdout
    assert WELL not in done.stdout.splitlines()


def test_it_reads_no_secret_but_helms_record(confcom, cluster):
    seed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "seed", "namespace": SYSTEM}, "data": {"a": "b"}}
    cluster.chart = lambda values: [*default_chart(values), seed]
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.find("Secret", "seed")[0]["data"]["a"] = "c"
    cluster.calls.clear()
    assert confcom("status").exit_code == ExitCode.OK
    asked = [line for line in cluster.calls if line[0] == "kubectl"]
    assert not [line for line in asked if "secret" in " ".join(line)]
    assert asked
    assert "Secret" not in "".join(cluster.said)
    words = [words_and_flags(line)[0] for line in cluster.calls if line[0] == "helm"]
    assert words == [["helm", "history", "confcom"], ["helm", "get", "manifest", "confcom"]]


def test_an_update_that_stands_still_is_named_and_not_touched(confcom, enabled, wrong):
    enabled.stalling = True
    confcom("update", "--version", "0.2.0", "--no-wait")
    enabled.sleep(1.0)
    enabled.sleep(1.0)
    for pod in enabled.find("Pod", namespace=SYSTEM):
        pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    enabled.calls.clear()
    told = [one["problem"] for one in wrong() if one["code"] == "update-stalled"]
    assert sorted(re.findall(r"kubectl annotate daemonset .*?(confcom-[a-z-]+)", one)[-1] for one in told) == [
        "confcom-device-plugin",
        "confcom-quote-helper",
    ]
    assert {line[1] for line in enabled.calls if line[0] == "kubectl"} <= {"get", "config", "logs"}

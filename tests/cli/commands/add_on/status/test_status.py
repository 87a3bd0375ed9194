"""`confcom status` on a cluster in memory."""

import re
from itertools import product

from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import POLICY
from testkit.fake_cluster.cluster import default_chart, words_and_flags
from testkit.fake_cluster.objects import EPC, SYSTEM

WELL = "All is well."
"""The last line, if it is so."""


def test_json(confcom, enabled):
    epc = {"resource": EPC, "capacity_mib": 162, "allocatable_mib": 162, "used_mib": 0}
    accounting = {"kind": "device", "choice": "fits-devices", "reason": "all", "held_back_mib": 0}
    plugin, helper = (
        {
            "pod": enabled.daemon(component)["metadata"]["name"],
            "state": "ready",
            "reason": "",
            "reason_code": "",
            "version": "0.1.0",
            "image": f"registry.test/confcom/{component}:0.1.0",
        }
        for component in ("device-plugin", "quote-helper")
    )
    assert confcom.document("status") == {
        "enabled": True,
        "ok": True,
        "namespace": SYSTEM,
        "version": "0.1.0",
        "simulated": True,
        "hardware_quote_helpers": [],
        "notes": [],
        "update_in_progress": False,
        "nodes": [
            {
                "name": "a",
                "sgx": "simulated",
                "ready": True,
                "epc": epc | {"found_mib": 168, "offered_mib": 162, "free_mib": 162, "accounting": accounting},
                "device_plugin": [plugin],
                "quote_helper": [helper],
                "provision_device": "yes",
                "problems": [],
            }
        ],
        "nodes_without_sgx": 1,
        "nodes_well": [
            {
                "sgx": "simulated",
                "nodes": 1,
                "epc": epc,
                "accounting": {"device": 1},
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


def test_not_enabled(confcom, cluster):
    assert SYSTEM in confcom.problem("not-enabled")
    cluster.objects.append(make.daemon_set("device-plugin", namespace="sgx"))
    elsewhere = confcom.problem("not-enabled")
    assert "sgx" in elsewhere.replace(SYSTEM, "").split()
    assert "--namespace" in elsewhere


def test_a_change_that_was_not_made(cluster, confcom):
    cluster.objects.append(make.failed_hook("confcom-simulated-root-1", "DeadlineExceeded", "it was too slow"))
    job, enabled = confcom.problems()
    assert (job["code"], enabled["code"]) == ("hook-job-failed", "not-enabled")
    assert " confcom-simulated-root-1 " in job["problem"]
    assert "(DeadlineExceeded: it was too slow)" in job["problem"]
    assert commands_in(job["problem"]) == ["confcom enable"]
    others = make.failed_hook("confcom-simulated-root-2", "DeadlineExceeded", "", namespace="default")
    cluster.objects += [others, make.failed_hook("mine", "BackoffLimitExceeded", "", labels={})]
    confcom("enable", "--simulated")
    cluster.objects.append(make.failed_hook("confcom-simulated-root-1", "BackoffLimitExceeded", ""))
    job = confcom.problem("hook-job-failed")
    assert "(BackoffLimitExceeded)" in job
    assert commands_in(job) == ["confcom rollback"]


def test_an_admission_policy_that_somebody_removed(confcom, enabled):
    confcom.ok("status")
    kinds = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    enabled.remove(set(product(kinds, [POLICY])))
    problem = confcom.problem("policy-missing")
    assert set(re.findall(r"\bValidatingAdmissionPolicy\w*", problem)) == kinds
    assert POLICY in problem
    enabled.denied = {"list validatingadmissionpolicy", "list secrets"}
    confcom.ok("status")
    enabled.denied = set()
    assert commands_in(problem) == ["confcom enable"]
    confcom.ok("enable")
    confcom.ok("status")


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
    told = {(one["kind"], one["name"]): one for one in confcom.document("status")["workloads"]}
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
    confcom.ok("enable", "--simulated")
    cluster.find("Secret", "seed")[0]["data"]["a"] = "c"
    cluster.calls.clear()
    confcom.ok("status")
    asked = [line for line in cluster.calls if line[0] == "kubectl"]
    assert not [line for line in asked if "secret" in " ".join(line)]
    assert asked
    assert "Secret" not in "".join(cluster.said)
    words = [words_and_flags(line)[0] for line in cluster.calls if line[0] == "helm"]
    assert words == [["helm", "history", "confcom"], ["helm", "get", "manifest", "confcom"]]


def test_an_api_server_that_was_upgraded_is_noted(confcom, enabled):
    for_1_35 = ("--simulated", "--api-server=1.35", "--capacity-support=api-server")
    enabled.chart = lambda _: [make.daemon_set("device-plugin", args=for_1_35)]
    confcom.ok("update")
    assert [note["code"] for note in confcom.document("status")["notes"]] == ["api-server-upgraded"]

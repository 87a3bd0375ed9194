"""`confcom hardware-report --cluster`, on a cluster in memory whose Jobs end as a test has it."""

import json

import pytest

from confcom.addon.daemons.node_reports import MAX_NODES
from confcom.addon.operations.reports.hardware_reports import START_SECONDS
from confcom.errors import ExitCode
from confcom.hardware_report.document.report import FORMAT
from testkit.cli_output import run_confcom
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import SYSTEM

PREFIX = "confcom-hardware-report-"
REPORT = {
    "format": FORMAT,
    "sections": {"system": {"kernel": {"value": "6.8.0", "meaning": "uname"}}},
    "findings": [{"code": "no-driver", "section": "devices", "what": "none", "do": "load it"}],
}
SUCCEEDED = {"phase": "Succeeded"}


def jobs(cluster):
    return [one for one in cluster.find("Job") if one["metadata"]["name"].startswith(PREFIX)]


def node_of(job):
    required = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (field,) = term["matchFields"]
    return field["values"][0]


def run_jobs(cluster, *, status=SUCCEEDED, log=REPORT, statuses=()):
    """Have each Job's Pod end so, or so by node."""
    by_node = dict(statuses)
    made = []

    def tick(_):
        for job in jobs(cluster):
            name, node = job["metadata"]["name"], node_of(job)
            if cluster.find("Pod", f"{name}-x"):
                continue
            made.append(job)
            pod = make.pod(
                f"{name}-x", namespace=SYSTEM, on=node, owner=("Job", name), status=by_node.get(node, status)
            )
            cluster.objects.append(pod)
            text = log if isinstance(log, str) else json.dumps(log)
            cluster.logs[f"{name}-x"] = f"a line before\n{text}\n"

    cluster.on_tick = tick
    return made


def document(confcom, *options):
    return confcom.document("hardware-report", "--cluster", *options)


def codes(findings):
    return [one["code"] for one in findings]


@pytest.fixture
def metal(on_hardware, confcom):
    """Two nodes with SGX hardware, one without."""
    on_hardware.objects += [make.node("other", make.HARDWARE), make.node("plain")]
    on_hardware.settle()
    return on_hardware


QUOTE = {
    "format": FORMAT,
    "sections": {"quote": {"verdict": {"value": "unusable", "meaning": "of verify"}}},
    "findings": [{"code": "quote-not-genuine", "section": "quote", "what": "a test root", "do": "send it"}],
}


def test_the_last_quote_of_each_nodes_helper_is_in_its_report(confcom, metal):
    metal.last_quotes = {"m": json.dumps(QUOTE) + "\n"}
    run_jobs(metal)
    first, second = document(confcom)["nodes"]
    assert first["report"]["sections"] == REPORT["sections"] | QUOTE["sections"]
    assert first["report"]["findings"] == REPORT["findings"] + QUOTE["findings"]
    assert first["findings"] == []
    assert second["report"] == REPORT
    assert codes(second["findings"]) == ["report-quote-none"]


def test_why_there_is_no_quote_is_a_finding(confcom, metal):
    run_jobs(metal)
    metal.last_quotes = dict.fromkeys(("m", "other"), '{"format": "another"}')
    assert [codes(one["findings"]) for one in document(confcom)["nodes"]] == [["report-quote-not-readable"]] * 2
    metal.denied = {"get pods/proxy"}
    assert [codes(one["findings"]) for one in document(confcom)["nodes"]] == [["report-quote-unread"]] * 2
    metal.denied = set()
    found = document(confcom, "--node", "plain")["nodes"][0]
    assert found["report"] == REPORT
    assert codes(found["findings"]) == ["report-quote-no-helper"]


def test_each_node_with_hardware_reports_and_nothing_is_left(confcom, metal):
    made = run_jobs(metal)
    metal.last_quotes = dict.fromkeys(("m", "other"), json.dumps(QUOTE))
    found = document(confcom)
    assert found == {
        "format": "confcom-hardware-report-cluster/1",
        "nodes": [{"node": number, "report": found["nodes"][0]["report"], "findings": []} for number in (1, 2)],
        "findings": [],
    }
    assert found["nodes"][0]["report"]["sections"]["system"] == REPORT["sections"]["system"]
    assert [node_of(job) for job in made] == ["m", "other"]
    assert not jobs(metal)
    assert not [one for one in metal.find("Pod") if one["metadata"]["name"].startswith(PREFIX)]


def test_text_has_each_report_and_no_name_of_a_node(confcom, metal):
    metal.node("other")["status"]["conditions"][0]["status"] = "Unknown"
    run_jobs(metal)
    done = confcom.ok("hardware-report", "--cluster")
    assert "Node 1 of 2" in done.stdout
    assert "  kernel: 6.8.0" in done.stdout
    assert "no-driver (devices)" in done.stdout
    assert "report-node-not-ready" in done.stdout
    assert "other" not in done.stdout
    assert "Node 2 of the report is other." in done.stderr
    assert any(line.split() == ["ok", "m", "reported"] for line in done.stderr.splitlines())


def test_it_is_written_to_a_file(confcom, metal, tmp_path):
    run_jobs(metal)
    done = confcom.ok("hardware-report", "--cluster", "-o", "json", "--out", tmp_path / "r.json")
    assert done.stdout == ""
    assert len(json.loads((tmp_path / "r.json").read_text())["nodes"]) == 2


def pod_of(job):
    return job["spec"]["template"]["spec"]


def test_the_pod_has_no_privileges(confcom, metal):
    (job, _) = run_and_get(confcom, metal)
    pod = pod_of(job)
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert (context["runAsNonRoot"], context["capabilities"]) == (True, {"drop": ["ALL"]})
    assert context["runAsUser"] not in {0, 10001}
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(pod)
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == ["/"]
    assert not [name for name in container["resources"]["limits"] if "/" in name]
    assert (job["spec"]["backoffLimit"], job["metadata"]["namespace"]) == (0, SYSTEM)
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0


def run_and_get(confcom, cluster, *options):
    made = run_jobs(cluster)
    document(confcom, *options)
    return made


def test_the_image_is_the_helpers_with_its_pull_secrets(confcom, metal):
    for daemon in metal.find("DaemonSet"):
        daemon["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "login"}]
    (job, _) = run_and_get(confcom, metal, "--timeout", "2")
    (container,) = pod_of(job)["containers"]
    assert container["image"] == "registry.test/confcom/quote-helper:0.1.0"
    assert pod_of(job)["imagePullSecrets"] == [{"name": "login"}]
    assert container["command"] == ["python", "-m", "confcom.hardware_report"]
    assert "--timeout=2" in container["args"]


def test_without_a_helper_the_image_is_the_plugins(confcom, metal):
    confcom.ok("enable", "--no-quote-helper")
    (job, _) = run_and_get(confcom, metal)
    assert pod_of(job)["containers"][0]["image"] == "registry.test/confcom/device-plugin:0.1.0"


def test_an_image_that_is_named(confcom, metal):
    (job, _) = run_and_get(confcom, metal, "--image", "mine:1")
    assert pod_of(job)["containers"][0]["image"] == "mine:1"


def test_nodes_that_are_named(confcom, metal):
    made = run_jobs(metal)
    found = document(confcom, "--node", "plain", "--node", "nobody")
    assert [node_of(job) for job in made] == ["plain"]
    assert len(found["nodes"]) == 1
    assert codes(found["findings"]) == ["report-node-not-found"]


def test_of_many_nodes_some_report(confcom, metal):
    metal.objects += [make.node(f"n{number:02}", make.HARDWARE) for number in range(MAX_NODES)]
    run_jobs(metal)
    found = document(confcom)
    assert len(found["nodes"]) == MAX_NODES
    assert codes(found["findings"]) == ["report-nodes-left-out"]


def test_without_nodes_or_an_image_it_is_a_finding(confcom, cluster):
    assert codes(document(confcom)["findings"]) == ["report-no-sgx-nodes", "report-image-unknown"]
    assert codes(document(confcom, "--node", "a")["findings"]) == ["report-image-unknown"]
    run_jobs(cluster)
    assert document(confcom, "--node", "a", "--image", "mine:1")["nodes"][0]["report"] == REPORT


PULLING = make.waiting("ImagePullBackOff", "no such image")
ENDED = {"exitCode": 1, "message": "No module named confcom.hardware_report"}
BROKEN = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ENDED}}]}


@pytest.mark.parametrize(
    ("status", "code", "part"),
    [
        (PULLING, "report-pod-not-started", "no such image"),
        (make.unschedulable("0/3 nodes are available"), "report-pod-not-started", "0/3 nodes"),
        (make.running(), "report-pod-not-started", ""),
        (BROKEN, "report-pod-failed", "No module named"),
        (make.rejected("low on memory", "Evicted"), "report-pod-failed", "low on memory"),
    ],
)
def test_why_a_node_has_no_report_is_a_finding_of_it(confcom, metal, status, code, part):
    run_jobs(metal, statuses={"m": status})
    first, second = document(confcom)["nodes"]
    assert first["report"] is None
    assert codes(first["findings"]) == [code]
    assert part in first["findings"][0]["what"]
    assert first["findings"][0]["do"]
    assert second["report"] == REPORT
    assert not jobs(metal)


def test_a_pod_that_cannot_start_is_given_up_before_the_jobs_time_is_over(confcom, metal):
    run_jobs(metal, statuses={"m": PULLING})
    began = metal.now
    document(confcom)
    assert metal.now - began < START_SECONDS


@pytest.mark.parametrize("log", ["nothing of a report", {"format": "confcom-hardware-report/9"}])
def test_a_log_without_a_report_is_a_finding(confcom, metal, log):
    run_jobs(metal, log=log)
    assert [codes(one["findings"]) for one in document(confcom)["nodes"]] == [["report-not-readable"]] * 2


def test_the_name_of_the_node_is_left_out_of_findings(confcom, metal):
    run_jobs(metal, statuses={"other": make.rejected("node other, or 'other': another brother", "Evicted")})
    what = document(confcom)["nodes"][1]["findings"][0]["what"]
    assert what.endswith("node NODE-2, or 'NODE-2': another brother")


def test_a_job_whose_pod_is_refused(confcom, metal):
    def tick(cluster):
        for job in jobs(cluster):
            name = job["metadata"]["name"]
            cluster.objects.append(make.failed_create("Job", name, "violates PodSecurity", namespace=SYSTEM))

    metal.on_tick = tick
    found = document(confcom)["nodes"][0]["findings"]
    assert codes(found) == ["report-pod-not-started"]
    assert "violates PodSecurity" in found[0]["what"]


def test_a_job_that_may_not_be_made_or_removed(confcom, metal):
    metal.denied = {"create jobs"}
    found = document(confcom)
    assert [codes(one["findings"]) for one in found["nodes"]] == [["report-job-refused"]] * 2
    metal.denied = {"delete jobs"}
    run_jobs(metal)
    found = document(confcom)
    assert [one["report"] for one in found["nodes"]] == [REPORT] * 2
    assert codes(found["findings"]) == ["report-jobs-left"]
    assert PREFIX in found["findings"][0]["do"]


def test_who_may_not_follow_the_pods_is_told_at_once(confcom, metal):
    metal.denied = {"list events"}
    began = metal.now
    assert [codes(one["findings"]) for one in document(confcom)["nodes"]] == [["report-pod-not-seen"]] * 2
    assert metal.now == began
    assert not jobs(metal)


def test_a_log_that_comes_late_is_read_again(confcom, metal):
    run_jobs(metal)
    read = []

    def late(words, flags, stdin):
        read.append(words[0])
        return 0, metal.logs[words[0]] if read.count(words[0]) > 1 else "", ""

    metal._kubectl_logs = late
    assert [one["report"] for one in document(confcom)["nodes"]] == [REPORT] * 2


def test_an_api_server_that_is_away_for_a_moment(confcom, metal):
    run_jobs(metal)
    tick, began = metal.on_tick, metal.now

    def away(cluster):
        tick(cluster)
        cluster.away = bool(jobs(cluster)) and cluster.now < began + 10

    metal.on_tick = away
    assert [one["report"] for one in document(confcom)["nodes"]] == [REPORT] * 2


def test_an_api_server_that_does_not_answer_is_an_error(confcom, metal):
    metal.away = True
    confcom.error(ExitCode.UNAVAILABLE, "cluster-request-failed", "hardware-report", "--cluster")


@pytest.mark.parametrize("left", [False, True])
def test_an_interruption_removes_the_jobs(confcom, metal, left):
    def interrupt(cluster):
        if jobs(cluster):
            cluster.denied = {"delete jobs"} if left else set()
            raise KeyboardInterrupt

    metal.on_tick = interrupt
    error = confcom.error(ExitCode.INTERRUPTED, "reports-interrupted", "hardware-report", "--cluster")
    assert bool(jobs(metal)) is left
    assert ("kubectl delete jobs" in error["do"]) is left


def test_a_bug_leaves_no_job(confcom, metal):
    def fail(cluster):
        if jobs(cluster):
            raise ZeroDivisionError

    metal.on_tick = fail
    with pytest.raises(ZeroDivisionError):
        confcom("hardware-report", "--cluster")
    assert not jobs(metal)


@pytest.mark.parametrize(
    "words",
    [
        ["--cluster", "--quote", "q.bin"],
        ["--cluster", "--socket", "/x"],
        ["--cluster", "--host-root", "/x"],
        ["--node", "a"],
        ["--image", "i"],
        ["--namespace", "n"],
        ["--context", "c"],
    ],
)
def test_options_of_the_other_kind_of_report_are_refused(words):
    done = run_confcom(FakeCluster(), ["hardware-report", *words, "-o", "json"])
    assert done.exit_code == ExitCode.USAGE
    assert json.loads(done.stdout)["error"]["code"] == "command-line-refused"

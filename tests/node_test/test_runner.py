import json
import os
import re
import signal
from xml.etree import ElementTree as ET

import pytest

from confcom.node_test.runner import MAX_PODS
from confcom.quote_provider.export import export_platform
from confcom.sample_workload import DEFAULT_ENCLAVE_NAME, RESULT_PREFIX
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from testkit import cluster_objects as make

OLD = {"creationTimestamp": "2026-11-28T00:00:00Z", "labels": {"confcom.internal/test": "120"}}
NO_DEVICE = RESULT_PREFIX + json.dumps({"error": {"code": "no-enclave-device", "what": "none", "why": "", "do": ""}})


def namespaces(cluster):
    return {one["metadata"]["name"] for one in cluster.api.find("Namespace")} - {"default", make.SYSTEM}


def causes(found):
    return {one["node"]: (one["cause"] or {}).get("code") for one in found["results"]}


def hardware(cluster, *names):
    for name in names:
        cluster.api.put(make.node(name, make.HARDWARE, resources={make.EPC: 162}))
    for part in ("device-plugin", "quote-helper"):
        made = make.daemon_set(part, make.HARDWARE, args=())
        made["metadata"]["name"] += "-hardware"
        cluster.api.put(made)


@pytest.fixture
def exported(cluster, tmp_path):
    """The options with the files of the release's root."""
    export_platform(SimulatedPlatform.of_root(RootSeed(bytes(32), make.CREATED_ROOT)), tmp_path, cluster.now())
    return ("--root", tmp_path / "root.pem", "--collateral", tmp_path / "collateral")


def test_each_nodes_quote_is_verified_and_nothing_stays(run, cluster, nodes):
    found = run()
    assert found["ok"] is True
    assert causes(found) == {"a": None, "b": None}
    assert [(one["epc"], one["device"], one["quote_ms"], one["verified"]) for one in found["results"]] == [
        (True, True, 7.0, True)
    ] * 2
    assert namespaces(cluster) == set()
    assert len({json.dumps(one["spec"]["containers"][0]["env"]) for one in nodes.seen.values()}) == 2


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (make.unschedulable("1 Insufficient epc"), "pod-pending"),
        (make.rejected(), "pod-rejected"),
        (make.waiting("ImagePullBackOff"), "image-not-pulled"),
        (NO_DEVICE, "no-enclave-device"),
        ("nothing", "quote-missing"),
    ],
)
def test_it_goes_on_after_a_failure_and_tells_its_cause(run, cluster, nodes, trouble, code):
    nodes.troubles["a"] = trouble
    found = run("--timeout", "5", exit_code=8)
    assert (found["ok"], causes(found)) == (False, {"a": code, "b": None})
    assert namespaces(cluster) == set()


def test_a_quote_of_another_root_is_not_verified(run, nodes):
    nodes.seed = RootSeed(bytes([1]) * 32, make.CREATED_ROOT)
    found = run(exit_code=8)
    assert causes(found) == {"a": "root", "b": "root"}


def test_a_refused_pod_is_told_in_the_api_servers_words(run, cluster):
    words = 'admission webhook "x" denied the request: no EPC here'
    cluster.api.refuse(lambda request: request.method == "POST" and request.url.path.endswith("/pods"), 403, words)
    found = run("--timeout", "5", exit_code=8)
    assert causes(found) == {"a": "pod-refused", "b": "pod-refused"}
    assert "no EPC here" in found["results"][0]["cause"]["what"]


def test_a_new_namespaces_service_account_is_awaited(run, cluster):
    def late(request):
        return cluster.time < 2 and request.method == "POST" and request.url.path.endswith("/pods")

    cluster.api.refuse(late, 403, 'pods "x" is forbidden: error looking up service account y/default: not found')
    assert run()["ok"] is True


def test_a_quote_for_an_earlier_challenge_is_not_verified(run, cluster, nodes):
    run()
    nodes.troubles["a"] = next(log for name, log in cluster.api.logs.items() if name.endswith("-0"))
    assert causes(run(exit_code=8)) == {"a": "report-data", "b": None}


def test_a_certificate_that_ends_soon_fails_a_verified_node(run):
    found = run("--node", "a", "--fail-within", "40000", exit_code=8)
    assert (causes(found), found["results"][0]["verified"]) == ({"a": "certificate-ends"}, True)


def test_a_simulated_quote_of_a_hardware_node_is_not_verified(run, cluster, exported):
    hardware(cluster, "h")
    measured = SimulatedEnclave.from_name(DEFAULT_ENCLAVE_NAME).mr_enclave.hex()
    found = run("--node", "h", "--image", "mine:1", "--mrenclave", measured, *exported, exit_code=8)
    assert causes(found) == {"h": "platform"}


def test_hardware_without_a_program_is_never_verified(run, cluster):
    hardware(cluster, "h")
    found = run("--node", "h", exit_code=8)
    assert causes(found) == {"h": "no-enclave-program"}
    accepted = run("--node", "h", "--without-program")
    assert accepted["results"][0]["verified"] is False


def test_many_nodes_have_fifty_pods_at_a_time_and_one_watch(run, cluster, nodes):
    names = [f"n{index}" for index in range(298)]
    for name in names:
        cluster.api.put(make.node(name, make.SIMULATED, resources={make.EPC: 162}))
    nodes.troubles = dict.fromkeys([*names, "a", "b"], "no quote")
    found = run("--all", exit_code=8)
    assert len(found["results"]) == 300
    assert nodes.most == MAX_PODS
    # After the list of the add-on's Pods come a watch that sees no Pod end, and one for the end of each 50 Pods.
    watches = [path for verb, path in cluster.api.requests if verb == "GET" and path.endswith("/pods")]
    assert len(watches) == 2 + 300 // MAX_PODS


def test_a_quota_for_fewer_pods_only_takes_longer(run, cluster, nodes):
    for name in "cdef":
        cluster.api.put(make.node(name, make.SIMULATED, resources={make.EPC: 162}))

    def is_full(request):
        return request.method == "POST" and request.url.path.endswith("/pods") and len(nodes.pods()) >= 2

    cluster.api.refuse(is_full, 403, 'pods "x" is forbidden: exceeded quota: q, used: pods=2')
    assert run("--all", "--namespace-for-test", "default")["ok"] is True
    assert nodes.most == 2


@pytest.mark.parametrize("denied", [("create", "namespaces"), ("get", "pods/log"), ("get", "secrets")])
def test_rights_are_checked_before_anything_is_made(run, cluster, denied):
    cluster.api.denied.add(denied)
    found = run(exit_code=7)
    assert found["error"]["code"] == "permissions-missing"
    assert " ".join(denied) in found["error"]["why"]
    assert cluster.api.writes == []


def test_files_take_the_place_of_the_secret(run, cluster, exported):
    cluster.api.denied.add(("get", "secrets"))
    assert run(*exported)["ok"] is True


def test_a_given_namespace_stays_without_our_pods(run, cluster):
    cluster.api.denied |= {("create", "namespaces"), ("delete", "namespaces"), ("list", "namespaces")}
    other = make.pod("theirs", namespace="default")
    old = make.pod("confcom-test-old", namespace="default")
    old["metadata"] |= OLD
    for one in (other, old):
        cluster.api.put(one)
    run("--namespace-for-test", "default")
    assert [one["metadata"]["name"] for one in cluster.api.find("Pod", None, "default")] == ["theirs"]


def test_what_a_killed_run_left_is_removed(run, cluster):
    for name, metadata in (("confcom-test-old", OLD), ("theirs", OLD), ("confcom-test-new", {})):
        cluster.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}})
    run()
    assert namespaces(cluster) == {"theirs", "confcom-test-new"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(cluster, nodes, number):
    made = []

    def interrupt():
        made.extend(namespaces(cluster))
        os.kill(os.getpid(), number)

    cluster.each = interrupt
    assert cluster.run("test").exit_code == 130
    assert made
    assert namespaces(cluster) == set()


def test_pull_secrets_are_copied(run, cluster, nodes):
    cluster.api.put(make.root_secret("pull") | {"type": "kubernetes.io/dockerconfigjson"})
    for one in cluster.api.find("DaemonSet", "confcom-quote-helper"):
        one["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "pull"}]
    copies = []
    work = cluster.each
    cluster.each = lambda: (copies.extend(one["metadata"] for one in cluster.api.find("Secret", "pull")), work())
    run()
    assert any(re.match("confcom-test-", one["namespace"]) for one in copies)


def test_text_and_short_and_junit(cluster, nodes, tmp_path):
    nodes.troubles["a"] = make.rejected()
    text, short = (cluster.run("test", "-o", form, "--junit", tmp_path / "j.xml") for form in ("text", "short"))
    assert ("b  EPC ok" in text.stdout, "b  EPC ok" in short.stdout) == (True, False)
    assert text.stdout.splitlines()[-3:] == short.stdout.splitlines()[-3:]
    assert ET.parse(tmp_path / "j.xml").getroot().get("failures") == "1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--node", "a", "--all"),
        ("--root", "intel"),
        ("--image", "mine:1"),
        ("--image", "mine:1", "--mrenclave", "00" * 32),
        ("--mrsigner", "00" * 32),
        ("--namespace-for-test", "UPPER"),
    ],
)
def test_options_that_do_not_fit(run, cluster, arguments):
    run(*arguments, exit_code=2)
    assert cluster.api.requests == []


@pytest.mark.parametrize(("trouble", "exit_code"), [(None, 0), (make.rejected(), 8)])
def test_the_archive_of_a_failure(run, nodes, tmp_path, trouble, exit_code):
    nodes.troubles = {"a": trouble}
    run("--sysdump-on-failure", tmp_path / "dump.tar.gz", exit_code=exit_code)
    assert [one.name for one in tmp_path.glob("*.tar.gz")] == ["dump.tar.gz"] * bool(exit_code)


def test_an_archive_that_cannot_be_written_changes_neither_result_nor_exit_code(run, nodes, tmp_path):
    nodes.troubles = {"a": make.rejected()}
    assert run("--sysdump-on-failure", tmp_path / "missing" / "dump.tar.gz", exit_code=8)["failed"] == 1

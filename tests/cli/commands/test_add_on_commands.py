import base64
import json
import os
import signal
from types import SimpleNamespace

import click
import pytest

from confcom.addon.chart_objects import STAGING_LABEL
from confcom.addon.simulated_root import DEFAULT_SECRET
from confcom.errors import ExitCode
from confcom.kubernetes.kubectl_flags import Login
from testkit import cluster_objects as make
from testkit.cli_output import commands_in, error_of, findings_of, rows_of
from testkit.cluster_objects import EPC, HELPER_EPC, SYSTEM
from testkit.fake_chart import REGISTRY

DIGEST = f"sha256:{'7' * 64}"
DEBUG = ("update", "--set", "logLevel=debug")
CHANGES = [("enable", "--simulated-node", "b", "--set", "logLevel=warning"), DEBUG, ("rollback",), ("disable", "--yes")]
CHANGE_NAMES = {"enable": "upgrade", "update": "upgrade", "rollback": "rollback", "disable": "upgrade"}
LABEL = "confcom.internal/simulated-sgx"


def images(cluster):
    specs = [one["spec"]["template"]["spec"] for kind in ("DaemonSet", "Deployment") for one in cluster.api.find(kind)]
    return {one["image"].removeprefix(f"{REGISTRY}/confcom/") for spec in specs for one in spec["containers"]}


def test_enable_waits_until_every_node_is_ready(confcom, cluster):
    """The command keeps its Lease until the command ends."""
    cluster.roll_slowly()
    work, holders = cluster.each, []

    def look_and_work():
        holders.append(cluster.api.find("Lease")[0]["spec"]["holderIdentity"])
        work()

    cluster.each = look_and_work
    done = confcom.ok("enable", "--simulated", "-o", "json")
    result = json.loads(done.stdout)
    assert (result["changed"], result["revision"]) == (True, 1)
    rows = [row[:3] for row in rows_of(done)]
    for step in ("device plugin", "quote helper"):
        assert rows.index(("..", "a", step)) < rows.index(("ok", "a", step))
    assert f"Secret {DEFAULT_SECRET}" in done.stderr
    assert all(one.startswith("enable by ") for one in holders)
    (namespace,) = cluster.api.find("Namespace", SYSTEM)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    (root,) = cluster.api.find("Secret", DEFAULT_SECRET)
    assert set(root["data"]) == {"seed", "created", "check"}


def test_enable_ends_before_nodes_show_epc_and_status_waits(confcom, cluster):
    cluster.roll_slowly()
    work, reports_at = cluster.each, 30.0

    def work_and_report_late():
        work()
        for node in cluster.api.find("Node"):
            for part in ("capacity", "allocatable"):
                if cluster.time < reports_at:
                    node["status"][part].pop(EPC, None)

    cluster.each = work_and_report_late
    done = confcom.ok("enable", "--simulated")
    assert cluster.time < reports_at
    assert "confcom status --wait" in done.stderr
    assert confcom("status").exit_code == ExitCode.NOT_READY
    confcom.ok("status", "--wait")
    assert cluster.time >= reports_at


def test_disable_waits_for_a_first_report_of_the_kubelet(confcom, enabled):
    """Although the earlier change ended before this report, the kubelet keeps resources for five minutes."""
    nodes, begun = [one["status"] for one in enabled.api.find("Node")], enabled.time
    for status in nodes:
        status["capacity"], status["allocatable"] = {}, {}

    def report():
        passed = enabled.time - begun
        for status in nodes:
            if 5 <= passed < 300:
                status["capacity"], status["allocatable"] = ({EPC: mib, HELPER_EPC: mib} for mib in ("9", "0"))
            status["capacity"] |= dict.fromkeys(status["capacity"] if passed >= 300 else (), "0")

    enabled.each = report
    confcom.ok("disable", "--yes")
    assert enabled.time - begun >= 300
    assert [one["status"]["capacity"] for one in enabled.api.find("Node")] == [{} for _ in nodes]


@pytest.mark.parametrize("command", [("enable", "--simulated"), ("enable",), DEBUG])
def test_a_second_run_changes_nothing(confcom, enabled, command):
    confcom.ok(*command)
    before, changes = enabled.state(), enabled.helm_changes()
    assert confcom.document(*command)["changed"] is False
    assert (enabled.state(), enabled.helm_changes()) == (before, changes)


def test_enable_keeps_earlier_choices(confcom, cluster):
    confcom.ok("enable", "--simulated", "--set", "logLevel=debug")
    confcom.ok("enable", "--no-quote-helper")
    values = {"simulated": {"enabled": True}, "image": {"registry": REGISTRY}, "logLevel": "debug"}
    assert cluster.helm.revisions[-1]["values"] == values | {"quoteHelper": {"enabled": False}}
    assert not cluster.api.find("DaemonSet", "confcom-quote-helper")
    confcom.ok("enable", "--quote-helper", registry="")
    assert cluster.helm.revisions[-1]["values"] == values | {"quoteHelper": {"enabled": True}}


def test_a_node_is_labelled_for_simulation(confcom, cluster):
    confcom.ok("enable", "--simulated")
    done = confcom.ok("enable", "--simulated-node", "b", "-o", "json")
    assert f"Labelled the node b {LABEL}=true." in done.stderr
    assert json.loads(done.stdout)["changed"] is True
    assert cluster.api.find("Node", "b")[0]["metadata"]["labels"] == {LABEL: "true"}
    assert cluster.helm.revisions[-1]["values"]["simulated"] == {"enabled": True}
    plugins = [one["spec"]["nodeName"] for one in cluster.api.find("Pod") if "plugin" in one["metadata"]["name"]]
    assert sorted(plugins) == ["a", "b"]


def test_no_node_is_labelled_before_helm_has_the_new_values(confcom, cluster):
    """A node that starts with the old amount of EPC keeps this amount while the node's helper runs."""
    confcom.ok("enable", "--simulated")
    joining = ("enable", "--simulated-node", "b", "--set", "simulated.epcMiB=4096")
    cluster.helm.fail("upgrade", "Error: it was full", status="failed")
    confcom.error(ExitCode.FAILED, "helm-failed", *joining)
    assert LABEL not in cluster.api.find("Node", "b")[0]["metadata"]["labels"]
    confcom.ok(*joining)
    assert cluster.api.find("Node", "b")[0]["metadata"]["labels"] == {LABEL: "true"}


@pytest.mark.parametrize(
    ("argument", "code", "spoil"),
    [
        ("--simulated", "version-too-old", lambda cluster: vars(cluster.helm).update(version="v3.19.0")),
        ("--simulated", "version-too-old", lambda cluster: vars(cluster.api).update(version="v1.29.4")),
        ("--simulated", "permissions-missing", lambda cluster: cluster.api.denied.add(("create", "daemonsets"))),
        ("--simulated", "hardware-in-cluster", lambda cluster: cluster.api.put(make.node("m", make.HARDWARE))),
        ("--simulated-node=typo", "node-not-found", None),
        ("--quote-helper", "aesmd-image-missing", None),
    ],
)
def test_a_failed_check_changes_nothing(confcom, cluster, argument, code, spoil):
    if spoil:
        spoil(cluster)
    before = cluster.state()
    exit_code = ExitCode.USAGE if code == "aesmd-image-missing" else ExitCode.REFUSED
    document = confcom.document("enable", argument, exit_code=exit_code)
    assert document["error"]["code"] == "preflight-failed"
    assert ("failed", code) in findings_of(document).values()
    assert (cluster.state(), cluster.helm_changes()) == (before, [])


@pytest.mark.parametrize("namespace", ["", "-n", "Upper", "a.b", "a-", "a" * 64])
def test_an_invalid_namespace_is_refused_before_the_login(confcom, cluster, namespace):
    for command in ("enable", "disable", "status"):
        error = confcom.error(ExitCode.USAGE, "command-line-refused", command, f"--namespace={namespace}")
        assert "'--namespace'" in error["what"]
    assert cluster.logins == []


def test_the_login_is_the_users_and_each_command_names_the_cluster(confcom, cluster):
    who = ["--context=lab", "--kubeconfig=/k", "--as=ann", "--as-group=g", "--as-group=h"]
    for command in (["enable", "--simulated"], list(DEBUG), ["status"], ["rollback"], ["disable"]):
        done = confcom(*command, *who, "-o", "json")
        assert done.stderr.splitlines()[0] == "cluster: test (https://test:6443)"
        assert list(json.loads(done.stdout)["cluster"].values()) == ["test", "https://test:6443", SYSTEM]
    assert cluster.logins == [Login("lab", "/k", "ann", ("g", "h"))] * 5
    flags = {"--kube-context=lab", "--kubeconfig=/k", "--kube-as-user=ann", "--kube-as-group=g", "--kube-as-group=h"}
    flags.add(f"--namespace={SYSTEM}")
    assert all(flags <= set(line) for line in cluster.helm.calls if line[1] != "version")


def test_a_dry_run_before_anything_is_installed(confcom, cluster):
    before = cluster.state()
    would = confcom.document("enable", "--simulated-node", "b", "--dry-run")["would_change"]
    assert (cluster.state(), cluster.api.find("Lease"), cluster.helm_changes()) == (before, [], [])
    assert {"Namespace", "Secret", "Node", "DaemonSet"} <= {one["kind"] for one in would}


@pytest.mark.parametrize("options", [[], ["-o", "json"]], ids=["text", "json"])
def test_a_dry_run_of_an_update(confcom, enabled, options):
    before = enabled.state()
    done = confcom.ok("update", "--version", "0.2.0", "--dry-run", *options)
    old, new = (f"{REGISTRY}/confcom/quote-helper:{one}" for one in ("0.1.0", "0.2.0"))
    assert f"containers[quote-helper].image: {old} -> {new}" in done.stderr
    if options:
        found = {one["name"]: one["fields"] for one in json.loads(done.stdout)["would_change"]}
        assert (old, new) in {(one["old"], one["new"]) for one in found["confcom-quote-helper"]}
    else:
        assert done.stdout == ""
    assert "Without --dry-run" not in confcom.ok("enable", "--simulated", "--dry-run", *options).stderr
    assert enabled.state() == before


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_helms_failure_has_its_words_and_the_same_command_continues(confcom, enabled, command):
    verb = "uninstall" if command[0] == "disable" else CHANGE_NAMES[command[0]]
    confcom.ok("update", "--version", "0.2.0")
    enabled.helm.fail(verb, "Error: it was full", status="" if verb == "uninstall" else "failed")
    error = confcom.error(ExitCode.FAILED, "helm-failed", *command)
    assert ("it was full" in error["why"], "same command" in error["do"]) == (True, True)
    confcom.ok(*command)
    assert confcom("status").exit_code == (ExitCode.NOT_READY if verb == "uninstall" else ExitCode.OK)


def another_confcom(cluster, command):
    spec = cluster.api.find("Lease")[0]["spec"]
    spec |= {"holderIdentity": "update by bob", "renewTime": cluster.now().isoformat()}
    return spec["holderIdentity"]


def a_helm(cluster, command, status=""):
    """Record a change by a helm process that still runs, or that was killed; return the change's status."""
    status = status or f"pending-{CHANGE_NAMES[command[0]]}"
    cluster.helm.revisions[-1] |= {"status": status, "updated": cluster.now().isoformat()}
    return status


@pytest.mark.parametrize("begin", [another_confcom, a_helm])
@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_another_change_is_not_disturbed_and_one_that_was_killed_is_completed(confcom, enabled, command, begin):
    confcom.ok("update", "--version", "0.2.0")
    words, before = begin(enabled, command), enabled.state()
    assert words in confcom.error(ExitCode.REFUSED, "change-running", *command)["why"]
    assert enabled.state() == before
    enabled.time += 61
    confcom.ok(*command)
    assert not [one for one in enabled.helm.revisions[-1:] if one["status"] != "deployed"]
    assert ("uninstall" in enabled.helm_changes()) is (command[0] == "disable")


def test_a_removal_that_was_killed_is_completed_also_by_enable(confcom, enabled):
    confcom.ok(*DEBUG)
    a_helm(enabled, CHANGES[0], "uninstalling")
    enabled.time += 61
    confcom.error(ExitCode.REFUSED, "change-running", *CHANGES[0], "--dry-run")  # a dry run ends no removal
    confcom.error(ExitCode.REFUSED, "not-enabled", *DEBUG)
    assert confcom(*CHANGES[0]).exit_code == ExitCode.REFUSED  # kubelets report the plugin's end later
    enabled.sleep(10)
    confcom.ok(*CHANGES[0])
    assert enabled.helm_changes() == ["upgrade", "upgrade", "uninstall", "upgrade"]


def once(part, name, act):
    call = getattr(part, name)

    def called(*arguments, **more):
        setattr(part, name, call)
        done = call(*arguments, **more)
        act()
        return done

    setattr(part, name, called)


@pytest.mark.parametrize(("seconds", "exit_code"), [(50, ExitCode.OK), (1e6, ExitCode.UNAVAILABLE)])
def test_an_api_server_that_is_away_is_waited_for(confcom, enabled, seconds, exit_code):
    once(enabled.helm, "_upgrade", lambda: setattr(enabled.api, "unreachable", True))
    enabled.each = lambda: setattr(enabled.api, "unreachable", enabled.time < seconds)
    done = confcom(*DEBUG, "--timeout", "60")
    assert (done.exit_code, 50 <= enabled.time < 65) == (exit_code, True)
    assert [row[1] for row in rows_of(done) if row[0] == "!!"] == ["API server"]


@pytest.mark.parametrize(
    "row",
    [
        (DEBUG, "helm", "_history", "revision 2 is deployed"),
        (DEBUG, "helm", "_render", "revision 2 is deployed"),
        (DEBUG, "helm", "_upgrade", "revision 3 is deployed"),
        (DEBUG, "cluster", "sleep", "revision 3 is deployed"),
        (("enable", "--simulated-node", "b"), "cluster", "sleep", "revision 2 is deployed"),
        (("rollback",), "helm", "_rollback", "revision 3 is deployed"),
        (("disable",), "helm", "_uninstall", "no release"),
        (("disable",), "cluster", "sleep", "no release"),
    ],
)
def test_ctrl_c_says_the_state_and_the_same_command_continues(confcom, enabled, row):
    """The signals are real. SIGTERM and a closed terminal, which sends SIGHUP twice, work like Ctrl-C."""
    command, part, name, words = row
    confcom.ok("update", "--version", "0.2.0")
    enabled.roll_slowly()
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)]
    number = {"sleep": signal.SIGTERM, "_render": signal.SIGHUP}.get(name, signal.SIGINT)

    def interrupt():
        once(enabled.api, "handle_request", lambda: number is signal.SIGHUP and os.kill(os.getpid(), number))
        os.kill(os.getpid(), number)

    once(enabled if part == "cluster" else enabled.helm, name, interrupt)
    done = confcom(*command, "-o", "json")
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)] == before
    assert done.exit_code == ExitCode.INTERRUPTED, done.output
    error = error_of(done)
    assert error["code"] == "interrupted"
    assert words in error["why"]
    assert ("same command again" in error["do"]) is (command[0] != "rollback")  # a repeat rolls back further
    assert done.stderr.endswith(f"  do:  {error['do']}\n")
    assert not any(one["spec"]["holderIdentity"] for one in enabled.api.find("Lease"))
    enabled.sleep(1)
    confcom.ok(*(("status", "--wait") if command[0] == "rollback" else command))


def test_ctrl_c_while_the_api_server_is_away(confcom, enabled):
    def interrupt():
        enabled.api.unreachable = True
        os.kill(os.getpid(), signal.SIGINT)

    once(enabled.helm, "_upgrade", interrupt)
    assert "cannot be read" in confcom.error(ExitCode.INTERRUPTED, "interrupted", *DEBUG)["why"]


@pytest.mark.parametrize(
    ("answer", "exit_code"), [(True, ExitCode.OK), (False, ExitCode.REFUSED), (None, ExitCode.INTERRUPTED)]
)
def test_disable_asks_if_pods_use_the_add_on(confcom, enabled, monkeypatch, answer, exit_code):
    def confirm(*_, **__):
        if answer is None:
            raise KeyboardInterrupt
        return answer

    enabled.api.put(make.pod("user", on="a", limits={EPC: 10}))
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("confcom.cli.commands.disable.sys", terminal)
    monkeypatch.setattr(click, "confirm", confirm)
    before = enabled.state()
    done = confcom("disable")
    assert done.exit_code == exit_code
    assert "default/user on a" in done.stderr
    assert (enabled.state() == before) is not answer


@pytest.mark.parametrize(
    ("options", "plugin", "helper"),
    [
        (["--version", "0.3.0"], "0.3.0", "0.3.0"),
        (["--version", "20260115"], "20260115", "20260115"),
        (["--set", f"devicePlugin.image.digest={DIGEST}"], f"0.2.0@{DIGEST}", "0.2.0"),
        (["--version", "0.3.0", "--set", f"quoteHelper.image.digest={DIGEST}"], "0.3.0", f"0.3.0@{DIGEST}"),
        (["--version", "0.3.0", "--set", "image.tag=0.2.1"], "0.2.1", "0.2.1"),
        (["--set", "logLevel=debug"], "0.2.0", "0.2.0"),
        ([], "0.1.0", "0.1.0"),
    ],
)
def test_the_images_of_an_update(confcom, enabled, options, plugin, helper):
    """An update to a version, or without options, drops image digests that an earlier command set."""
    confcom.ok("update", "--version", "0.2.0", "--set", f"controller.image.digest={DIGEST}")
    confcom.ok("update", *options)
    assert {f"device-plugin:{plugin}", f"quote-helper:{helper}"} <= images(enabled)
    kept = [one for one in images(enabled) if one.startswith("controller:") and one.endswith(DIGEST)]
    assert bool(kept) is (bool(options) and "--version" not in options)
    assert isinstance(enabled.helm.revisions[-1]["values"]["image"]["tag"], str)


def test_an_update_that_cannot_start_leaves_the_old_one_serving(confcom, enabled):
    image = f"{REGISTRY}/confcom/quote-helper:bad"
    enabled.roll_slowly({image: make.waiting("ImagePullBackOff", "no such image")})
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "update", "--version", "bad")
    assert "a: the old one keeps serving" in error["what"]
    assert error["why"] == "a: quote helper failing: ImagePullBackOff: no such image"
    assert "confcom rollback" in commands_in(error["do"])
    assert "An update is in progress." in confcom("status").stdout.splitlines()
    assert confcom.document("rollback")["revision"] == 3
    assert images(enabled) == {f"{one}:0.1.0" for one in ("device-plugin", "quote-helper", "controller")}
    confcom.ok("status")


def test_each_rollback_goes_further_back(confcom, enabled):
    for version in ("0.2.0", "0.3.0"):
        confcom.ok("update", "--version", version)
    for arguments, version in ([[], "0.2.0"], [[], "0.1.0"], [["3"], "0.3.0"]):
        confcom.ok("rollback", *arguments)
        assert f"quote-helper:{version}" in images(enabled)
    assert "1, 2, 3, 4, 5, 6" in confcom.error(ExitCode.REFUSED, "no-earlier-revision", "rollback", "77")["do"]


@pytest.mark.parametrize("command", ["update", "rollback"])
def test_without_a_release_there_is_nothing_to_change(confcom, command):
    assert "confcom enable" in commands_in(confcom.error(ExitCode.REFUSED, "not-enabled", command)["do"])


@pytest.mark.parametrize(
    ("denied", "code"), [(("create", "leases"), "forbidden"), (("patch", "daemonsets"), "preflight-failed")]
)
def test_a_rollback_asks_for_permissions_before_anything(confcom, enabled, denied, code):
    confcom.ok(*DEBUG)
    enabled.api.denied.add(denied)
    enabled.api.remove("Lease", "confcom-change")
    before = enabled.state()
    assert error_of(confcom("rollback", "-o", "json"))["code"] == code
    assert enabled.state() == before


def test_status_waits_if_it_is_asked_to(confcom, cluster):
    cluster.roll_slowly()
    (problem,) = confcom.document("status", exit_code=ExitCode.NOT_READY)["problem_details"]
    assert problem["code"] == "not-enabled"
    confcom.ok("enable", "--simulated", "--no-wait")
    assert confcom("status").exit_code == ExitCode.NOT_READY
    done = confcom.ok("status", "--wait")
    assert done.stdout.splitlines()[-1] == "All is well."
    assert ("ok", "a", "quote helper") in [row[:3] for row in rows_of(done)]


def test_texts_from_the_cluster_cannot_forge_lines(confcom, enabled):
    condition = enabled.api.find("Node", "a")[0]["status"]["conditions"][0]
    condition |= {"status": "Unknown", "message": "\x1b[2Jgone\nAll is well."}
    done = confcom("status")
    assert "\x1b" not in done.stdout
    assert "All is well." not in done.stdout.splitlines()


def test_the_seed_is_shown_nowhere(confcom, cluster):
    seeds, texts, handle = [], [], cluster.api.handle_request

    def recorded(request):
        answer = handle(request)
        if request.url.path.endswith("/secrets") and request.method == "POST":
            seeds.append(json.loads(request.content)["data"]["seed"])
        elif request.method == "GET" and not request.url.path.endswith(DEFAULT_SECRET):
            texts.append(answer.text)
        return answer

    cluster.api.handle_request = recorded
    enable, full = ["enable", "--simulated"], "Error: it was full"
    for options in ([], ["-o", "json"]):
        cluster.api.refuse(
            lambda request: request.method == "POST" and request.url.path.endswith("/secrets"), 500, full
        )
        texts += [confcom(*command, *options).output for command in ([*enable, "--dry-run"], enable)]
        cluster.api.accept()
        cluster.helm.fail("upgrade", full, status="failed")
        commands = (enable, enable, ["status"], DEBUG, ["rollback"], ["status"], ["disable", "--no-wait"])
        texts += [confcom(*command, *options).output for command in commands]
        cluster.api.remove("Secret", DEFAULT_SECRET)
        cluster.sleep(600)
    texts += [json.dumps(cluster.helm.calls), json.dumps(cluster.helm.revisions)]
    assert len(seeds) == len(set(seeds)) == 4
    forms = [form for one in seeds for form in (one, base64.b64decode(one).hex())]
    assert not [text for text in texts if any(form in text for form in forms)]


@pytest.mark.parametrize(
    ("label", "case"), [("", ((), "none")), ("revoked", ((), "revoked")), ("revoked", (("none",), "none"))]
)
def test_an_export_is_staged_as_the_cluster_is(confcom, enabled, tmp_path, label, case):
    options, staging = case
    helper = enabled.api.find("DaemonSet", "confcom-quote-helper")[0]
    helper["metadata"]["labels"] |= {STAGING_LABEL: label} if label else {}
    chosen = [f"--staging={one}" for one in options]
    assert confcom.document("simulation", "export", *chosen, str(tmp_path))["staging"] == staging
    assert ("Revoked" in (tmp_path / "collateral" / "tcb_info.json").read_text()) is (staging == "revoked")

"""`confcom enable`, `update` and `rollback` on a cluster in memory."""

import json

import pytest

from confcom.addon.rollout.stalled_update import QUIET_SECONDS, RECONCILE_ANNOTATION
from confcom.errors import ExitCode
from testkit.cli_output import error_of, findings_of, problems_of, rows_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import words_and_flags
from testkit.fake_cluster.objects import EPC, SYSTEM

IMAGES = "registry.test/confcom/"


def changes(cluster):
    """Command lines that change something."""
    verbs = ("upgrade", "rollback", "uninstall", "label", "patch", "delete", "create")
    return [
        line
        for line in cluster.calls
        if line[1] in verbs and not any(word.startswith("--dry-run") for word in line) and "--output=json" not in line
    ]


def test_enable_waits_until_every_node_is_ready(confcom, cluster):
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.output
    result = json.loads(done.stdout)
    assert (result["changed"], result["revision"]) == (True, 1)
    steps = {(one["node"], one["step"]): one["state"] for one in result["nodes"]}
    assert steps == {
        ("a", "device plugin"): "ready (0.1.0)",
        ("a", "quote helper"): "ready (0.1.0)",
        ("a", "enclave memory"): f"162 MiB as {EPC}",
    }
    rows = [row[:3] for row in rows_of(done)]
    for _, step in steps:
        assert rows.index(("..", "a", step)) < rows.index(("ok", "a", step))


def test_enable_again_changes_nothing(confcom, cluster):
    confcom("enable", "--simulated")
    before = len(changes(cluster))
    done = confcom("enable", "--simulated", "--output", "json")
    assert done.exit_code == ExitCode.OK
    assert json.loads(done.stdout)["changed"] is False
    assert len(cluster.revisions) == 1
    assert len(changes(cluster)) == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("DaemonSet", "confcom-quote-helper"),
        ("ValidatingAdmissionPolicy", "confcom-provision"),
        ("ValidatingAdmissionPolicyBinding", "confcom-provision"),
    ],
)
def test_enable_brings_back_what_somebody_deleted(confcom, cluster, kind, name):
    confcom("enable", "--simulated")
    for one in cluster.find(kind, name):
        cluster.objects.remove(one)
    done = confcom("enable", "--simulated", "--output", "json")
    assert done.exit_code == ExitCode.OK
    assert cluster.find(kind, name)
    assert f": {kind} {name}.\n" in done.stderr
    assert ("ok", "a", "quote helper") in [row[:3] for row in rows_of(done)]
    assert json.loads(done.stdout)["changed"] is True


def test_enable_has_the_root_made_again_that_somebody_deleted(confcom, cluster):
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "labels": make.labels("simulated-root")}}
    secret = {"kind": "Secret", "metadata": {"name": "confcom-simulated-platform", "namespace": SYSTEM}}
    upgrade = cluster._helm_upgrade

    def with_hook(words, flags, rest, stdin):
        code, out, err = upgrade(words, flags, rest, stdin)
        if "dry-run" in flags:
            return code, json.dumps(json.loads(out) | {"hooks": [{"manifest": json.dumps(job)}]}), err
        if not cluster.find("Secret"):
            cluster.objects.append(secret)
        return code, out, err

    cluster._helm_upgrade = with_hook
    confcom("enable", "--simulated")
    assert json.loads(confcom("enable", "--simulated", "-o", "json").stdout)["changed"] is False
    cluster.objects.remove(secret)
    done = confcom("enable", "--simulated", "-o", "json")
    assert json.loads(done.stdout)["changed"] is True
    assert ": Secret confcom-simulated-platform.\n" in done.stderr
    assert cluster.find("Secret")


def test_enable_finishes_what_a_disable_that_failed_took_away(confcom, cluster):
    confcom("enable", "--simulated")
    cluster._helm_uninstall = lambda *_: (1, "", "Error: Kubernetes cluster unreachable")
    done = confcom("disable", "-o", "json")
    assert done.exit_code == ExitCode.FAILED
    error = error_of(done)
    assert error["code"] == "helm-failed"
    assert [f"`confcom {command}`" in error["do"] for command in ("disable", "enable")] == [True, True]
    assert not cluster.find("ValidatingAdmissionPolicy")
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert cluster.find("ValidatingAdmissionPolicy")
    assert cluster.find("ValidatingAdmissionPolicyBinding")


def test_who_may_not_look_at_what_is_installed_is_told(confcom, enabled):
    get = enabled._kubectl_get
    refused = (1, "", 'Error from server (Forbidden): serviceaccounts "x" is forbidden: User "eve" cannot get')
    enabled._kubectl_get = lambda words, flags, stdin: refused if "filename" in flags else get(words, flags, stdin)
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert 'serviceaccounts "x" is forbidden' in done.stderr
    assert len(enabled.revisions) == 1


def test_enable_keeps_what_was_chosen_before_and_changes_what_is_named(confcom, cluster):
    confcom("enable", "--simulated", "--set", "logLevel=debug")
    done = confcom("enable", "--no-quote-helper")
    assert done.exit_code == ExitCode.OK, done.output
    assert cluster.revisions[-1]["values"] == {
        "simulated": {"enabled": True},
        "image": {"registry": "registry.test"},
        "logLevel": "debug",
        "quoteHelper": {"enabled": False},
    }
    assert confcom("enable", "--quote-helper").exit_code == ExitCode.OK
    assert cluster.revisions[-1]["values"]["quoteHelper"] == {"enabled": True}


def test_a_namespace_is_made_with_the_level_that_the_daemons_need(confcom, cluster):
    confcom("enable", "--simulated")
    (namespace,) = cluster.find("Namespace", SYSTEM)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_nodes_are_labelled_on_request(confcom, cluster):
    done = confcom("enable", "--simulated-node", "b")
    assert done.exit_code == ExitCode.OK, done.output
    assert cluster.node("b")["metadata"]["labels"] == make.SIMULATED
    assert ("ok", "b", "quote helper") in [row[:3] for row in rows_of(done)]


def test_a_node_that_the_controller_has_not_noticed_yet_is_waited_for(confcom, cluster):
    confcom("enable", "--simulated")
    cluster.lasting, began = True, cluster.now

    def notice(fake):
        fake.lasting = fake.now - began < 20

    cluster.on_tick = notice
    done = confcom("enable", "--simulated-node", "b")
    assert done.exit_code == ExitCode.OK, done.output
    assert cluster.now - began >= 20
    rows = [row[:3] for row in rows_of(done)]
    assert rows.index(("..", "b", "quote helper")) < rows.index(("ok", "b", "quote helper"))


def test_a_dry_run_says_what_would_be_and_changes_nothing(confcom, cluster):
    done = confcom("enable", "--simulated-node", "b", "--dry-run", "-o", "json")
    assert done.exit_code == ExitCode.OK
    assert done.stderr.endswith(" a, b\n")
    would_change = {(one["kind"], one["name"]): one for one in json.loads(done.stdout)["would_change"]}
    (label,) = would_change["Node", "b"]["fields"]
    assert (label["field"], label["new"]) == ("metadata.labels.confcom.internal/simulated-sgx", "true")
    assert would_change["DaemonSet", "confcom-quote-helper"]["change"] == "made"
    assert not changes(cluster)
    assert not cluster.find("DaemonSet")


def test_without_waiting_no_node_is_reported(confcom, cluster):
    done = confcom("enable", "--simulated", "--no-wait", "-o", "json")
    assert done.exit_code == ExitCode.OK
    assert json.loads(done.stdout)["nodes"] == []
    assert not [row for row in rows_of(done) if row[1] == "a"]
    assert confcom("enable", "--simulated", "--no-wait").stdout.endswith("see `confcom status`.\n")


def test_a_node_that_does_not_become_ready_is_named_with_the_reason(confcom, cluster):
    cluster.broken_images[f"{IMAGES}device-plugin:0.1.0"] = make.waiting("ImagePullBackOff", "no such image")
    done = confcom("enable", "--simulated", "--output", "json")
    assert done.exit_code == ExitCode.NOT_READY
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "daemons-not-ready"
    assert error["why"] == "a: device plugin failing: ImagePullBackOff: no such image"
    assert error["exit_code"] == ExitCode.NOT_READY


def test_a_pod_that_the_kubelet_evicts_is_named_with_the_reason(confcom, cluster):
    low = "The node was low on resource: ephemeral-storage"
    cluster.broken_images[f"{IMAGES}device-plugin:0.1.0"] = make.rejected(low, "Evicted")
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    assert error_of(done)["why"] == f"a: device plugin rejected: Evicted: {low}"


def test_the_api_server_may_be_away_for_a_while(confcom, cluster):
    began = []

    def blink(fake):
        if any("controllerrevisions" in " ".join(line) for line in fake.calls):  # the daemons are waited for
            began.append(fake.now)
            fake.away = fake.now < began[0] + 28

    cluster.on_tick = blink
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.output
    assert ("!!", "API server", "The connection to the server 10.0.0.1:6443 was refused") in rows_of(done)


def test_each_daemon_set_that_cannot_make_its_pods_is_told_once(confcom, cluster):
    names = ("confcom-device-plugin", "confcom-quote-helper")
    cluster.objects += [make.event(name, "FailedCreate", f"no room for {name}") for name in names]
    cluster.lasting = True

    def refuse(fake):
        for daemon in fake.find("DaemonSet"):
            daemon["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberAvailable": 0}

    cluster.on_tick = refuse
    done = confcom("enable", "--simulated", "--timeout", "30", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    assert error_of(done)["code"] == "daemons-not-ready"
    bad = [row for row in rows_of(done) if row[0] == "!!"]
    assert [subject for _, subject, _ in bad] == [f"DaemonSet {SYSTEM}/{name}" for name in names]
    assert all(row[2].endswith(f"FailedCreate: no room for {name}") for row, name in zip(bad, names, strict=True))


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


def test_update_goes_to_another_image(confcom, enabled):
    digest = f"sha256:{'7' * 64}"
    done = confcom("update", "--image-digest", digest, "-o", "json")
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["revision"] == 2
    (row,) = [row for row in rows_of(done) if row[:3] == ("ok", "a", "quote helper")]
    assert f"({digest[:19]})" in row[3]


def test_update_without_options_goes_back_to_the_programs_own_version(confcom, enabled):
    assert confcom("update", "--version", "0.2.0").exit_code == ExitCode.OK
    assert "registry.test/confcom/device-plugin:0.2.0" in json.dumps(enabled.find("Pod"))
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    assert "registry.test/confcom/device-plugin:0.2.0" in json.dumps(enabled.find("Pod"))
    assert confcom("update").exit_code == ExitCode.OK
    assert "0.2.0" not in json.dumps(enabled.find("Pod"))


def test_a_version_is_text_also_where_it_looks_like_a_number(confcom, enabled):
    assert confcom("update", "--version", "20260115").exit_code == ExitCode.OK
    assert enabled.revisions[-1]["values"]["quoteHelper"]["image"] == {"tag": "20260115", "digest": ""}


def test_what_is_set_wins_over_the_version(confcom, enabled):
    setting = "quoteHelper.image.tag=0.2.1,logLevel=debug"
    assert confcom("update", "--version", "0.2.0", "--set", setting.partition(",")[0]).exit_code == ExitCode.OK
    values = enabled.revisions[-1]["values"]
    assert (values["devicePlugin"]["image"]["tag"], values["quoteHelper"]["image"]["tag"]) == ("0.2.0", "0.2.1")
    confcom("update", "--version", "0.3.0", "--set", setting, "--dry-run")
    line = next(line for line in reversed(enabled.calls) if line[1] == "upgrade")
    assert "--set-string=devicePlugin.image.tag=0.3.0" in line
    assert not any(word.startswith("--set-string=quoteHelper.image.tag") for word in line)


@pytest.mark.parametrize("digest", ["7" * 64, "sha256:77", f"aesmd=sha256:{'7' * 64}"])
def test_a_digest_that_is_none(confcom, enabled, digest):
    done = confcom("update", "--image-digest", digest, "-o", "json")
    assert done.exit_code == ExitCode.USAGE
    assert error_of(done)["code"] == "digest-malformed"
    assert error_of(done)["what"].startswith(f"{digest} ")


def test_an_update_to_a_helper_that_is_not_there_changes_no_daemon(confcom, enabled):
    enabled.broken_images[f"{IMAGES}quote-helper:bad"] = make.waiting("ImagePullBackOff", "no such image")
    serving = enabled.find("Pod", namespace=SYSTEM)
    started = enabled.now
    done = confcom("update", "--version", "bad", "-o", "json")
    assert done.exit_code == ExitCode.FAILED
    assert 60 <= enabled.now - started < 70
    error = error_of(done)
    assert error["code"] == "hook-failed"
    assert "failing: ImagePullBackOff: no such image; UPGRADE FAILED: pre-upgrade hooks failed: " in error["why"]
    assert enabled.find("Pod", namespace=SYSTEM) == serving
    told = confcom("status", "-o", "json")
    assert told.exit_code == ExitCode.NOT_READY
    assert "hook-job-failed" in problems_of(told)

    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["revision"] == 3
    assert enabled.find("Pod", namespace=SYSTEM) == serving
    assert confcom("status").exit_code == ExitCode.OK


def test_an_update_that_cannot_start_stops_while_the_old_one_serves_and_is_rolled_back(confcom, enabled):
    enabled.broken_images[f"{IMAGES}quote-helper:bad"] = make.waiting("CrashLoopBackOff", "it ends at once")
    (serving,) = [pod for pod in enabled.find("Pod", namespace=SYSTEM) if "quote-helper" in pod["metadata"]["name"]]
    done = confcom("update", "--version", "bad", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    error = error_of(done)
    assert error["code"] == "daemons-not-ready"
    assert " on a (a: " in error["what"]  # where an old one serves
    assert error["why"] == "a: quote helper failing: CrashLoopBackOff: it ends at once"
    assert "`confcom rollback`" in error["do"]
    assert serving in enabled.find("Pod")

    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["revision"] == 3
    assert "bad" not in json.dumps(enabled.find("Pod"))
    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "no-earlier-revision"


def test_an_update_that_cannot_quote_is_reported_with_what_the_helper_says(confcom, enabled):
    image = "registry.test/confcom/quote-helper:mute"
    enabled.broken_images[image] = make.not_ready()

    def speak(fake):
        for pod in fake.find("Pod", namespace=SYSTEM):
            if pod["spec"]["containers"][0]["image"] == image:
                line = {"message": "not ready", "about": "readiness", "reason": "the state is damaged"}
                fake.logs[pod["metadata"]["name"]] = json.dumps(line)

    enabled.on_tick = speak
    started = enabled.now
    done = confcom("update", "--set", "quoteHelper.image.tag=mute", "--timeout", "30", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    assert error_of(done)["code"] == "daemons-not-ready"
    assert error_of(done)["why"].endswith(": the state is damaged")
    assert 30 <= enabled.now - started < 40


def test_an_update_that_goes_nowhere_has_a_deadline(confcom, enabled):
    enabled.lasting = True
    started = enabled.now
    done = confcom("update", "--version", "0.2.0", "--timeout", "90")
    assert done.exit_code == ExitCode.NOT_READY
    assert 90 <= enabled.now - started < 100


FROM_ANYWHERE = ("failed", "images-from-anywhere")


def test_without_a_registry_nothing_is_changed_and_it_says_what_to_write(confcom, refused, cluster):
    found = refused(
        *("--simulated-node", "b"),
        registry="",
        check="chart and values",
        code="images-from-anywhere",
        exit_code=ExitCode.USAGE,
    )
    assert found["what"].endswith(" confcom/device-plugin and confcom/quote-helper")
    for setting in ("image.registry", "devicePlugin.image.digest", "quoteHelper.image.digest"):
        assert f"--set {setting}=" in found["do"]
    assert not changes(cluster)
    assert cluster.node("b")["metadata"]["labels"] == {}


def test_two_digests_do_without_a_registry_until_an_update_drops_them(confcom, cluster):
    digests = [f"--set={one}.image.digest=sha256:{'7' * 64}" for one in ("devicePlugin", "quoteHelper")]
    done = confcom("enable", "--simulated", *digests, registry="")
    assert done.exit_code == ExitCode.OK, done.output
    assert f"confcom/quote-helper@sha256:{'7' * 64}" in json.dumps(cluster.find("Pod"))
    done = confcom("update", "--version", "0.2.0", "-o", "json")
    assert done.exit_code == ExitCode.USAGE
    assert findings_of(done)["chart and values"] == FROM_ANYWHERE
    other = f"sha256:{'8' * 64}"
    digests = [f"--image-digest={one}={other}" for one in ("device-plugin", "quote-helper")]
    assert confcom("update", "--version", "0.2.0", *digests).exit_code == ExitCode.OK


@pytest.fixture
def from_anywhere(confcom, cluster):
    """What an older chart installed, which knew no registry."""
    refusing = cluster.chart

    def older(values):
        rendered = json.dumps(refusing({**values, "image": {"registry": "R"}}))
        return json.loads(rendered.replace("R/confcom/", "confcom/"))

    cluster.chart = older
    assert confcom("enable", "--simulated", registry="").exit_code == ExitCode.OK
    cluster.chart = refusing
    return cluster


@pytest.mark.parametrize("command", [("enable", "--simulated"), ("update",), ("update", "--set", "logLevel=debug")])
def test_a_release_without_a_registry_is_changed_only_with_one(confcom, from_anywhere, command):
    serving, before = from_anywhere.find("Pod", namespace=SYSTEM), len(changes(from_anywhere))
    done = confcom(*command, "-o", "json", registry="")
    assert done.exit_code == ExitCode.USAGE
    assert findings_of(done)["chart and values"] == FROM_ANYWHERE
    assert "--set image.registry=REGISTRY" in done.stdout
    assert len(changes(from_anywhere)) == before
    assert from_anywhere.find("Pod", namespace=SYSTEM) == serving
    done = confcom(*command, "--set", "image.registry=registry.test", registry="")
    assert done.exit_code == ExitCode.OK, done.output
    assert "registry.test/confcom/quote-helper:0.1.0" in json.dumps(from_anywhere.find("Pod"))


def test_a_rollback_goes_back_to_a_revision_without_a_registry(confcom, from_anywhere):
    assert confcom("status").exit_code == ExitCode.OK
    assert confcom("update", "--set", "image.registry=registry.test").exit_code == ExitCode.OK
    done = confcom("rollback")
    assert done.exit_code == ExitCode.OK, done.output
    assert "registry.test" not in json.dumps(from_anywhere.find("Pod"))
    assert confcom("disable", "--yes").exit_code == ExitCode.OK


@pytest.mark.parametrize("options", [[], ["--version", "0.2.0"], ["--set", "simulated.enabled=true"], ["--dry-run"]])
def test_there_is_nothing_to_update(confcom, cluster, options):
    done = confcom("update", *options, "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert (error_of(done)["code"], error_of(done)["do"]) == ("not-enabled", "confcom enable")


def test_there_is_nothing_to_roll_back(confcom, cluster):
    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert (error_of(done)["code"], error_of(done)["do"]) == ("not-enabled", "confcom enable")


@pytest.mark.parametrize("command", ["update", "rollback"])
def test_what_is_in_another_namespace_is_not_changed_but_named(confcom, cluster, command):
    cluster.objects.append(make.daemon_set("device-plugin"))
    done = confcom(command, "-n", "typo", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "not-enabled"
    assert error_of(done)["do"].endswith(f" --namespace {SYSTEM}")


def test_who_may_not_look_elsewhere_gets_no_hint(confcom, cluster):
    cluster.denied = {"list daemonsets"}
    done = confcom("update", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert (error_of(done)["code"], error_of(done)["do"]) == ("not-enabled", "confcom enable")


@pytest.mark.parametrize(
    ("away", "missing", "check"), [(True, set(), "API server"), (False, {"helm"}, "helm")], ids=["cluster", "helm"]
)
def test_whether_there_is_anything_to_update_cannot_be_told(confcom, cluster, away, missing, check):
    cluster.away, cluster.missing = away, missing
    done = confcom("update", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert error_of(done)["code"] == "preflight-failed"
    assert findings_of(done)[check][0] == "failed"


def test_a_revision_that_is_not_there(confcom, enabled):
    done = confcom("rollback", "7", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "revision-not-found"


def test_a_job_that_cannot_start_ends_helms_wait(confcom, cluster):
    ended = []
    owner = ("Job", "confcom-simulated-root-1")
    labels = make.labels("simulated-root")
    cluster.objects.append({"kind": "Job", "metadata": {"name": owner[1], "namespace": SYSTEM}, "spec": {}})
    status = make.waiting("ErrImagePull", "no such image")
    cluster.objects.append(make.pod("root", namespace=SYSTEM, owner=owner, labels=labels, status=status))
    upgrade = cluster._helm_upgrade

    def hang(words, flags, rest, stdin):
        if "dry-run" in flags:
            return upgrade(words, flags, rest, stdin)
        while not ended:
            cluster.watch.meanwhile()
        return 1, "", "Error: INSTALLATION FAILED: failed pre-install: Job failed: DeadlineExceeded"

    def watch(fake):
        (job,) = fake.find("Job")
        if job["spec"]:
            ended.append(job)

    cluster._helm_upgrade, cluster.on_tick = hang, watch
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.FAILED
    error = error_of(done)
    assert error["code"] == "hook-failed"
    assert "confcom-simulated-root-1" in error["why"]
    assert "failing: ErrImagePull: no such image; " in error["why"]
    assert cluster.find("Job")[0]["spec"] == {"activeDeadlineSeconds": 1}


def test_if_helm_fails_it_is_told_what_was_done_before(confcom, cluster):
    upgrade = cluster._helm_upgrade

    def fail(words, flags, rest, stdin):
        if "dry-run" in flags:
            return upgrade(words, flags, rest, stdin)
        return 1, "", "Error: INSTALLATION FAILED: it was full"

    cluster._helm_upgrade = fail
    done = confcom("enable", "--simulated-node", "b", "-o", "json")
    assert done.exit_code == ExitCode.FAILED
    error = error_of(done)
    assert error["code"] == "helm-failed"
    helm, label, namespace = error["why"].split("; ")
    assert helm == "INSTALLATION FAILED: it was full"
    assert label.endswith(" confcom.internal/simulated-sgx=true")
    assert SYSTEM in namespace


def test_the_next_change_forgets_a_job_that_failed(confcom, enabled):
    confcom("update", "--set", "logLevel=debug")
    enabled.objects.append(make.failed_hook("confcom-simulated-root-1", "DeadlineExceeded", "it was too slow"))
    assert confcom("status").exit_code == ExitCode.NOT_READY
    assert confcom("rollback").exit_code == ExitCode.OK
    assert enabled.find("Job") == []
    assert confcom("status").exit_code == ExitCode.OK


def leave_after(cluster, verb, seconds):
    """The API server is away for some seconds as soon as helm has made a change."""
    made, back = getattr(cluster, f"_helm_{verb}"), []

    def change(words, flags, rest, stdin):
        done = made(words, flags, rest, stdin)
        if "dry-run" not in flags:
            back.append(cluster.now + seconds)
            cluster.away = True
        return done

    def tick(fake):
        fake.away = bool(back) and fake.now < back[0]

    setattr(cluster, f"_helm_{verb}", change)
    cluster.on_tick = tick


@pytest.mark.parametrize("options", [[], ["--no-wait"]])
def test_a_moment_without_the_api_server_after_the_change_is_waited_out(confcom, cluster, options):
    leave_after(cluster, "upgrade", 20)
    started = cluster.now
    done = confcom("enable", "--simulated", "-o", "json", *options)
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["revision"] == 1
    assert cluster.now - started >= 20


def test_an_api_server_that_stays_away_after_the_change_is_given_up_at_the_deadline(confcom, cluster):
    leave_after(cluster, "upgrade", 1e6)
    started = cluster.now
    done = confcom("enable", "--simulated", "--no-wait", "--timeout", "60")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert 60 <= cluster.now - started < 70


def test_an_api_server_that_refuses_is_not_waited_for(confcom, enabled):
    upgrade = enabled._helm_upgrade

    def and_lose_the_role(words, flags, rest, stdin):
        done = upgrade(words, flags, rest, stdin)
        if "dry-run" not in flags:
            enabled.denied = {"list pods"}
        return done

    enabled._helm_upgrade = and_lose_the_role
    started = enabled.now
    done = confcom("update", "--set", "logLevel=debug", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert error_of(done)["code"] == "forbidden"
    assert enabled.now - started < 10


def test_an_api_server_that_starts_again_may_refuse_for_a_while(confcom, enabled):
    started = enabled.now

    def start_again(fake):
        fake.away = fake.now < started + 10
        fake.denied = {"list pods"} if started + 10 <= fake.now < started + 20 else set()

    enabled.on_tick = start_again
    upgrade = enabled._helm_upgrade

    def and_end(words, flags, rest, stdin):
        done = upgrade(words, flags, rest, stdin)
        enabled.away = "dry-run" not in flags
        return done

    enabled._helm_upgrade = and_end
    done = confcom("update", "--set", "logLevel=debug")
    assert done.exit_code == ExitCode.OK, done.output
    assert "pods is forbidden" in done.stderr


def contexts(cluster):
    """What kubectl and helm were told, those that reach no cluster excepted."""
    calls = [line for line in cluster.calls if line[1] not in {"config", "version"} or "--output=json" in line]
    flags = [[word for word in line if word.startswith(("--context", "--kube-context"))] for line in calls]
    return {(line[0], *found) for line, found in zip(calls, flags, strict=True)}


def test_the_context_is_chosen_once_for_both_programs(confcom, cluster):
    cluster.context = "work"

    def switch(fake):
        fake.context = "home"

    cluster.on_tick = switch
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert cluster.context == "home"
    assert contexts(cluster) == {("kubectl", "--context=work"), ("helm", "--kube-context=work")}


def test_a_context_that_is_named_is_used(confcom, cluster):
    cluster.context = "work"
    assert confcom("enable", "--simulated", "--context", "home").exit_code == ExitCode.OK
    assert contexts(cluster) == {("kubectl", "--context=home"), ("helm", "--kube-context=home")}


def test_without_any_context_both_programs_find_the_cluster_by_themselves(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert contexts(cluster) == {("kubectl",), ("helm",)}


def test_a_change_that_was_interrupted_is_in_the_way_of_the_next_and_is_told_with_what_to_do(confcom, enabled):
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    rollback = enabled.revisions[0] | {"revision": 3, "status": "pending-rollback", "description": "Rollback to 1"}
    enabled.revisions.append(rollback)
    done = confcom("enable", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert "`confcom rollback --interrupted`" in error_of(done)["do"]
    assert confcom("rollback", "--interrupted").exit_code == ExitCode.OK
    assert enabled.revisions[-1]["description"] == "Rollback to 1"


@pytest.mark.parametrize(
    "command", [("update", "--version", "0.2.0"), ("rollback",), ("enable", "--set", "quoteHelper.image.tag=9")]
)
def test_an_update_that_stands_still_is_reconciled_again(confcom, enabled, command):
    assert confcom("update", "--version", "0.3.0").exit_code == ExitCode.OK
    enabled.stalling, started = True, enabled.now
    done = confcom(*command)
    assert done.exit_code == ExitCode.OK, done.output
    assert QUIET_SECONDS <= enabled.now - started < QUIET_SECONDS + 10
    said = [line for line in done.stderr.splitlines() if f" {RECONCILE_ANNOTATION}=" in line]
    assert "DaemonSet confcom-quote-helper " in said[-1]
    annotated = [line for line in enabled.calls if line[:2] == ["kubectl", "annotate"]]
    assert {words_and_flags(line)[0][2] for line in annotated} == {"daemonset.apps"}
    (helper,) = enabled.find("DaemonSet", "confcom-quote-helper")
    assert RECONCILE_ANNOTATION in helper["metadata"]["annotations"]
    assert RECONCILE_ANNOTATION not in helper["spec"]["template"]["metadata"].get("annotations", {})


def test_who_may_not_annotate_is_told_how(confcom, enabled):
    enabled.stalling = True
    enabled.on_tick = lambda fake: fake.denied.add("patch daemonsets")
    done = confcom("update", "--version", "0.2.0", "--timeout", "60")
    assert done.exit_code == ExitCode.NOT_READY
    assert ": kubectl annotate daemonset confcom-quote-helper -n confcom-system --overwrite " in done.stderr


def test_an_update_whose_pods_are_refused_is_not_annotated_and_says_why(confcom, enabled):
    enabled.stalling = True
    names = ("confcom-device-plugin", "confcom-quote-helper")
    enabled.objects += [make.event(name, "FailedCreate", "exceeded quota") for name in names]
    done = confcom("update", "--version", "0.2.0", "--timeout", "60", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    error = error_of(done)
    assert error["code"] == "daemons-not-ready"
    assert all(f"{name}: " in error["why"] for name in names)
    assert error["why"].count(": FailedCreate: exceeded quota") == len(names)
    assert not [line for line in enabled.calls if line[:2] == ["kubectl", "annotate"]]


@pytest.mark.parametrize("namespace", ["", "-n", "Upper", "a_b", "a.b", "a-", "a" * 64])
@pytest.mark.parametrize(
    "command", [["enable", "--simulated-node", "b"], ["disable"], ["status"]], ids=lambda it: it[0]
)
def test_what_is_no_namespace_is_refused_before_anything_is_asked(confcom, cluster, command, namespace):
    def run(*_, **__):
        pytest.fail("a program was run")

    cluster.run = run
    done = confcom(*command, f"--namespace={namespace}", "-o", "json")
    assert done.exit_code == ExitCode.USAGE
    assert error_of(done)["code"] == "command-line-refused"
    assert "'--namespace'" in error_of(done)["what"]

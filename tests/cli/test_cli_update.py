"""`confcom update` on a cluster in memory."""

import json

import pytest

from confcom.addon.rollout.stalled_update import QUIET_SECONDS, RECONCILE_ANNOTATION
from confcom.errors import ExitCode
from testkit.cli_output import error_of, findings_of, problems_of, rows_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import words_and_flags
from testkit.fake_cluster.objects import SYSTEM

IMAGES = "registry.test/confcom/"


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


@pytest.mark.parametrize("options", [[], ["--version", "0.2.0"], ["--set", "simulated.enabled=true"], ["--dry-run"]])
def test_there_is_nothing_to_update(confcom, cluster, options):
    done = confcom("update", *options, "-o", "json")
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

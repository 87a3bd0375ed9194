"""`confcom update` and `rollback` on a cluster in memory."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import rows_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

IMAGES = "registry.test/confcom/"


def test_update_goes_to_another_image(confcom, enabled):
    digest = f"sha256:{'7' * 64}"
    done = confcom.ok("update", "--image-digest", digest, "-o", "json")
    assert json.loads(done.stdout)["revision"] == 2
    (row,) = [row for row in rows_of(done) if row[:3] == ("ok", "a", "quote helper")]
    assert f"({digest[:19]})" in row[3]


def test_update_without_options_is_to_the_programs_version(confcom, enabled):
    confcom.ok("update", "--version", "0.2.0")
    assert "registry.test/confcom/device-plugin:0.2.0" in json.dumps(enabled.find("Pod"))
    confcom.ok("update", "--set", "logLevel=debug")
    assert "registry.test/confcom/device-plugin:0.2.0" in json.dumps(enabled.find("Pod"))
    confcom.ok("update")
    assert "0.2.0" not in json.dumps(enabled.find("Pod"))


def test_a_version_is_text_also_where_it_looks_like_a_number(confcom, enabled):
    confcom.ok("update", "--version", "20260115")
    assert enabled.revisions[-1]["values"]["quoteHelper"]["image"] == {"tag": "20260115", "digest": ""}


def test_what_is_set_wins_over_the_version(confcom, enabled):
    setting = "quoteHelper.image.tag=0.2.1,logLevel=debug"
    confcom.ok("update", "--version", "0.2.0", "--set", setting.partition(",")[0])
    values = enabled.revisions[-1]["values"]
    assert (values["devicePlugin"]["image"]["tag"], values["quoteHelper"]["image"]["tag"]) == ("0.2.0", "0.2.1")
    confcom("update", "--version", "0.3.0", "--set", setting, "--dry-run")
    line = next(line for line in reversed(enabled.calls) if line[1] == "upgrade")
    assert "--set-string=devicePlugin.image.tag=0.3.0" in line
    assert not any(word.startswith("--set-string=quoteHelper.image.tag") for word in line)


@pytest.mark.parametrize("digest", ["7" * 64, "sha256:77", f"aesmd=sha256:{'7' * 64}"])
def test_a_digest_that_is_none(confcom, enabled, digest):
    error = confcom.error(ExitCode.USAGE, "digest-malformed", "update", "--image-digest", digest)
    assert error["what"].startswith(f"{digest} ")


def test_an_update_that_cannot_start_leaves_the_old_one_serving(confcom, enabled):
    enabled.broken_images[f"{IMAGES}quote-helper:bad"] = make.waiting("CrashLoopBackOff", "it ends at once")
    (serving,) = [pod for pod in enabled.find("Pod", namespace=SYSTEM) if "quote-helper" in pod["metadata"]["name"]]
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "update", "--version", "bad")
    assert " on a (a: " in error["what"]  # where an old one serves
    assert error["why"] == "a: quote helper failing: CrashLoopBackOff: it ends at once"
    assert "`confcom rollback`" in error["do"]
    assert serving in enabled.find("Pod")

    assert confcom.document("rollback")["revision"] == 3
    assert "bad" not in json.dumps(enabled.find("Pod"))
    confcom.error(ExitCode.REFUSED, "no-earlier-revision", "rollback")


@pytest.mark.parametrize(
    "command",
    ["update", "update --version 0.2.0", "update --set simulated.enabled=true", "update --dry-run", "rollback"],
)
def test_there_is_nothing_to_update_or_roll_back(confcom, command):
    assert confcom.error(ExitCode.REFUSED, "not-enabled", *command.split())["do"] == "confcom enable"


@pytest.mark.parametrize("command", ["update", "rollback", "disable"])
def test_what_is_in_another_namespace_is_not_changed_but_named(confcom, cluster, command):
    cluster.objects.append(make.daemon_set("device-plugin"))
    error = confcom.error(ExitCode.REFUSED, "not-enabled", command, "-n", "typo")
    assert error["do"].endswith(f" --namespace {SYSTEM}")


@pytest.mark.parametrize(
    ("away", "missing", "check"), [(True, set(), "API server"), (False, {"helm"}, "helm")], ids=["cluster", "helm"]
)
def test_whether_there_is_anything_to_update_cannot_be_told(confcom, cluster, away, missing, check):
    cluster.away, cluster.missing = away, missing
    assert confcom.findings("update", exit_code=ExitCode.UNAVAILABLE)[check][0] == "failed"


def test_a_revision_that_is_not_there(confcom, enabled):
    confcom.error(ExitCode.REFUSED, "revision-not-found", "rollback", "7")


def test_an_update_whose_pods_are_refused_says_why(confcom, enabled):
    enabled.lasting = True
    names = ("confcom-device-plugin", "confcom-quote-helper")
    enabled.objects += [make.event(name, "FailedCreate", "exceeded quota") for name in names]
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "update", "--version", "0.2.0", "--timeout", "60")
    assert all(f"{name} cannot" in error["why"] for name in names)
    assert error["why"].count(": FailedCreate: exceeded quota") == len(names)


def test_who_may_not_look_elsewhere_gets_no_hint(confcom, cluster):
    cluster.denied = {"list daemonsets"}
    assert confcom.error(ExitCode.REFUSED, "not-enabled", "update")["do"] == "confcom enable"

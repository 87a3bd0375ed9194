"""`--dry-run` says what would change, on a cluster in memory."""

import copy
import json

import pytest

from confcom.errors import ExitCode
from testkit.fake_cluster.fields import edit

IMAGE = ("spec", "template", "spec", "containers", ("name", "quote-helper"), "image")


@pytest.fixture
def dry(confcom, cluster):
    """Runs it, and sees that nothing is changed."""

    def call(*arguments):
        before = copy.deepcopy((cluster.objects, cluster.revisions))
        done = confcom(*arguments, "--dry-run")
        assert done.exit_code == ExitCode.OK, done.output
        assert (cluster.objects, cluster.revisions) == before
        return done

    return call


def objects(done):
    """Kind, name and change of each object that would change."""
    return {(one["kind"], one["name"], one["change"]) for one in json.loads(done.stdout)["would_change"]}


@pytest.mark.parametrize("command", [["enable", "--simulated"], ["enable", "--simulated-node", "a"], ["update"]])
def test_nothing_would_change(dry, confcom, enabled, command):
    confcom("update")  # whose values name no tag, where enabling names none at all
    done = dry(*command)
    assert "Nothing was changed, and nothing would change without --dry-run.\n" in done.stderr
    assert done.stdout == ""
    assert json.loads(dry(*command, "-o", "json").stdout)["would_change"] == []


def test_an_edit_is_shown_with_the_value_in_the_cluster(dry, enabled):
    (helper,) = enabled.find("DaemonSet", "confcom-quote-helper")
    edit(helper, "kubectl-set", IMAGE, "evil:1")
    done = dry("enable", "--simulated", "-o", "json")
    assert "containers[quote-helper].image is evil:1" in done.stderr
    (helper,) = [one for one in json.loads(done.stdout)["would_change"] if one["name"] == "confcom-quote-helper"]
    (image,) = helper["fields"]
    assert image["field"].endswith("containers[quote-helper].image")
    assert (image["old"], image["new"]) == ("evil:1", "registry.test/confcom/quote-helper:0.1.0")


def test_what_somebody_deleted_is_made(dry, enabled):
    enabled.remove({("Secret", "confcom-simulated-platform"), ("ValidatingAdmissionPolicy", "confcom-provision")})
    assert objects(dry("enable", "--simulated", "-o", "json")) >= {
        ("Secret", "confcom-simulated-platform", "made"),
        ("ValidatingAdmissionPolicy", "confcom-provision", "made"),
    }


def test_a_failed_change_is_compared_with_the_one_before(dry, confcom, enabled):
    failed = copy.deepcopy(enabled.revisions[0])
    failed |= {"revision": 2, "status": "failed", "description": 'Upgrade "confcom" failed: no'}
    failed["values"]["logLevel"] = "debug"
    enabled.revisions.append(failed)
    done = dry("enable", "--simulated")
    assert "(revision 2)" in done.stderr

"""Images without a registry or a digest may come from anywhere: nothing is installed or updated with them."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.fake_cluster.objects import SYSTEM

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
    assert not cluster.changes
    assert cluster.node("b")["metadata"]["labels"] == {}


def test_two_digests_do_without_a_registry_until_an_update_drops_them(confcom, cluster):
    digests = [f"--set={one}.image.digest=sha256:{'7' * 64}" for one in ("devicePlugin", "quoteHelper")]
    confcom.ok("enable", "--simulated", *digests, registry="")
    assert f"confcom/quote-helper@sha256:{'7' * 64}" in json.dumps(cluster.find("Pod"))
    found = confcom.findings("update", "--version", "0.2.0", exit_code=ExitCode.USAGE)
    assert found["chart and values"] == FROM_ANYWHERE
    other = f"sha256:{'8' * 64}"
    digests = [f"--image-digest={one}={other}" for one in ("device-plugin", "quote-helper")]
    confcom.ok("update", "--version", "0.2.0", *digests)


@pytest.fixture
def from_anywhere(confcom, cluster):
    """What an older chart installed, which knew no registry."""
    refusing = cluster.chart

    def older(values):
        rendered = json.dumps(refusing({**values, "image": {"registry": "R"}}))
        return json.loads(rendered.replace("R/confcom/", "confcom/"))

    cluster.chart = older
    confcom.ok("enable", "--simulated", registry="")
    cluster.chart = refusing
    return cluster


@pytest.mark.parametrize("command", [("enable", "--simulated"), ("update",), ("update", "--set", "logLevel=debug")])
def test_a_release_without_a_registry_is_changed_only_with_one(confcom, from_anywhere, command):
    serving, before = from_anywhere.find("Pod", namespace=SYSTEM), from_anywhere.changes
    assert confcom.findings(*command, registry="", exit_code=ExitCode.USAGE)["chart and values"] == FROM_ANYWHERE
    assert "--set image.registry=REGISTRY" in confcom(*command, registry="").stderr
    assert from_anywhere.changes == before
    assert from_anywhere.find("Pod", namespace=SYSTEM) == serving
    confcom.ok(*command, "--set", "image.registry=registry.test", registry="")
    assert "registry.test/confcom/quote-helper:0.1.0" in json.dumps(from_anywhere.find("Pod"))


def test_a_rollback_goes_back_to_a_revision_without_a_registry(confcom, from_anywhere):
    confcom.ok("status")
    confcom.ok("update", "--set", "image.registry=registry.test")
    confcom.ok("rollback")
    assert "registry.test" not in json.dumps(from_anywhere.find("Pod"))
    confcom.ok("disable", "--yes")

"""The page that explains the Pod of hardware nodes shows the whole of it, and nothing else."""

import re

import yaml

from testkit.chart_manifests import HELPER, containers, daemon
from testkit.documentation import ROOT, blocks

PAGE = "docs/explanation/hardware-pod.md"


def shown_pod():
    """The Pod of all its parts."""
    pod = {}
    for block in blocks(PAGE, "yaml"):
        for key, value in yaml.safe_load(block).items():
            pod[key] = [*pod.get(key, []), *value] if isinstance(value, list) else value
    return pod


def settings_shown():
    return dict(re.findall(r"^--set ([\w.]+)=(\S+)$", (ROOT / PAGE).read_text(), re.MULTILINE))


def test_the_page_shows_the_pod_that_its_settings_render(plain_render):
    chosen = settings_shown()
    registry = chosen.pop("image.registry")
    settings = [f"{name}={value}" for name, value in chosen.items()]
    shown, rendered = shown_pod(), daemon(plain_render(*settings, registry=registry), HELPER)
    for pod in (shown, rendered):
        probe = containers(pod)["aesmd"]["livenessProbe"]["exec"]
        probe["command"] = [word.strip() for word in probe["command"]]
    assert shown == rendered


def test_the_sums_are_right(plain_render):
    pod = daemon(plain_render("quoteHelper.aesmd.image.repository=our/aesmd"), HELPER)
    together = [containers(pod)[name]["resources"] for name in ("aesmd", "quote-helper")]
    milli = sum(int(one["requests"]["cpu"].removesuffix("m")) for one in together)
    requested, limit = (
        sum(int(one[kind]["memory"].removesuffix("Mi")) for one in together) for kind in ("requests", "limits")
    )
    assert f"| the Pod | {milli}m CPU, {requested} MiB | {limit} MiB, 3 MiB of EPC |" in (ROOT / PAGE).read_text()

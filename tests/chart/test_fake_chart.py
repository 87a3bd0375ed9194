"""The fake cluster's chart renders what the real one does, as people see it: kinds and names, in helm's order."""

import re

import pytest
import yaml

from testkit.chart_manifests import containers
from testkit.fake_cluster.chart import HOOK, default_chart

REGISTRY = "image.registry=registry.test"
HELPERLESS = ("quoteHelper.enabled=false",)
SIMULATED = ("simulated.enabled=true",)
MIXED = (*SIMULATED, "simulated.besideHardware=true")
EXTRAS = ("networkPolicy.enabled=true", "serviceMonitor.enabled=true")
AESMD = ("quoteHelper.aesmd.image.repository=our/aesmd",)
CHOICES = [
    AESMD,
    (*AESMD, "quoteHelper.sgxPrvGroup=123", *EXTRAS),
    (*MIXED, *AESMD, *EXTRAS),
    (*AESMD, *HELPERLESS),
    SIMULATED,
    HELPERLESS,
    MIXED,
    (*SIMULATED, *HELPERLESS),
    (*MIXED, *HELPERLESS),
    (*SIMULATED, "provision.policy=false"),
    (*SIMULATED, "simulated.rootPolicy=false"),
    (*SIMULATED, "admission.mutate=on", *EXTRAS),
    (*SIMULATED, "admission.validate=false", "admission.warn=false"),
    (*SIMULATED, *EXTRAS),
    (*HELPERLESS, *EXTRAS),
    (*MIXED, *EXTRAS),
]


def values_of(settings):
    values = {}
    for setting in settings:
        path, _, value = setting.partition("=")
        *parents, last = path.split(".")
        place = values
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = {"true": True, "false": False}.get(value, value)
    return values


def shown(manifests):
    """What people are told: a Job's name ends with a part of its template's hash, a policy's with a namespace."""
    return [
        (
            one["apiVersion"],
            one["kind"],
            re.sub(r"\.(sgx|confcom-system)$", ".NAMESPACE", re.sub("-[0-9a-f]{8}$", "-HASH", one["metadata"]["name"])),
            HOOK in one["metadata"].get("annotations", {}),
        )
        for one in manifests
    ]


def resources(manifests):
    """What the daemons ask for of the device plugin's, and which container of theirs, by the DaemonSet's name."""
    return {
        one["metadata"]["name"]: {name for name in limits_of(one) if "/" in name[1]}
        for one in manifests
        if one["kind"] == "DaemonSet"
    }


def images(manifests):
    """Of the daemons and of the Job."""
    specs = [one["spec"]["template"]["spec"] for one in manifests if one["kind"] in {"DaemonSet", "Job"}]
    return [[container["image"] for container in containers(spec).values()] for spec in specs]


def limits_of(daemon):
    return [
        (name, limit)
        for name, container in containers(daemon["spec"]["template"]["spec"]).items()
        for limit in container.get("resources", {}).get("limits", {})
    ]


@pytest.mark.parametrize("settings", CHOICES, ids=" ".join)
def test_the_fake_chart_is_like_the_real_one(plain_template, settings):
    done = plain_template(*settings)
    assert done.returncode == 0, done.stderr
    real = [one for one in yaml.safe_load_all(done.stdout) if one]
    fake = default_chart(values_of((REGISTRY, *settings)))
    assert shown(fake) == shown(real)
    assert resources(fake) == resources(real)
    assert images(fake) == images(real)


def test_the_fake_chart_refuses_in_the_same_words(plain_template):
    for settings in ((), SIMULATED, HELPERLESS, AESMD, (*MIXED, *AESMD)):
        done = plain_template(*settings, registry="")
        with pytest.raises(ValueError, match="code: ") as refused:
            default_chart(values_of(settings))
        told = str(refused.value).partition("\n\n")[2]
        assert told.strip() in done.stderr

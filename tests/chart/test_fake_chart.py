"""The fake cluster's chart renders what the real one does, as people see it: kinds and names, in helm's order."""

import json
import re

import pytest

from testkit.chart_golden import CHART, RELEASE, SETS, ValueSet, golden, run_helm
from testkit.chart_manifests import containers, pod_of, sgx_limits
from testkit.fake_cluster.chart import HOOK, chart_of_1_36, default_chart

ALIKE = [name for name in SETS if name != "simulated-1-tib"]
"""The fake chart does not look for a registry in an image's repository."""


def fake(name):
    values = json.loads(SETS[name].input)
    rewrites = values.get("admission", {}).get("mutate", SETS[name].kubernetes >= "1.36")
    return (chart_of_1_36 if rewrites else default_chart)(values)


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
    """Which container asks for which of the device plugin's resources, by the DaemonSet's name."""
    daemons = {one["metadata"]["name"]: sgx_limits(pod_of(one)) for one in manifests if one["kind"] == "DaemonSet"}
    return {name: {held_by: set(one) for held_by, one in limits.items()} for name, limits in daemons.items()}


def images(manifests):
    """Of the daemons and of the Job."""
    specs = [pod_of(one) for one in manifests if one["kind"] in {"DaemonSet", "Job"}]
    return [[container["image"] for container in containers(spec).values()] for spec in specs]


@pytest.mark.parametrize("name", ALIKE)
def test_the_fake_chart_is_like_the_real_one(name):
    real, made = list(golden(name).values()), fake(name)
    assert shown(made) == shown(real)
    assert resources(made) == resources(real)
    assert images(made) == images(real)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"image": {}, "simulated": {"enabled": True}},
        {"image": {}, "quoteHelper": {"enabled": False}},
        {"image": {}, "quoteHelper": {"aesmd": {"image": {"repository": "our/aesmd"}}}},
    ],
)
def test_the_fake_chart_refuses_in_the_same_words(helm_program, values):
    chosen = ValueSet(values)
    with pytest.raises(ValueError, match="code: ") as refused:
        default_chart(json.loads(chosen.input))
    done = run_helm(helm_program, chosen, "template", RELEASE, CHART)
    assert str(refused.value).partition("\n\n")[2].strip() in done.stderr

"""What the add-on reads from the chart's objects is what the chart writes there."""

from confcom.addon.chart_objects import Component, component_of, daemons_in, simulates
from confcom.addon.simulated_root import secret_name
from confcom.kubernetes.objects import mapping
from testkit.chart_golden import NAMESPACE, REGISTRY, golden
from testkit.memory_chart import FROM_ANYWHERE, NO_AESMD, chart


def daemons_of(name):
    return daemons_in(golden(name).values())


def test_simulated_helpers_mount_the_root_and_others_do_not():
    helpers = [one for one in daemons_of("beside-hardware") if component_of(one) is Component.QUOTE_HELPER]
    labels = [mapping(one, "spec", "template", "metadata", "labels")["confcom.internal/platform"] for one in helpers]
    assert [label == "simulated" for label in labels] == [simulates(one) for one in helpers]
    assert sorted(bool(secret_name([one])) for one in helpers) == [False, True]
    assert [bool(secret_name([one])) for one in helpers] == [simulates(one) for one in helpers]


def test_the_chart_in_memory_has_the_charts_words(template):
    no_registry = template("simulated.enabled=true", "admission.mutate=on", "image.registry=")
    for done, refusal in ((no_registry, FROM_ANYWHERE), (template(), NO_AESMD)):
        assert [part for part in refusal.values() if part not in done.stderr] == []


def test_the_chart_in_memory_is_the_render_with_its_images():
    values = {"simulated": {"enabled": True}, "image": {"registry": REGISTRY}}
    assert chart(values, NAMESPACE) == list(golden("simulated").values())
    assert chart(values | {"image": {"registry": REGISTRY, "tag": "v2"}}, NAMESPACE) != chart(values, NAMESPACE)

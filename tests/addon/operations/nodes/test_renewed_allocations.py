"""Replacing the quote helpers and the device plugins of some nodes, with an API server that a case scripts."""

import contextlib
from types import SimpleNamespace

from confcom.addon.operations.nodes.renewed_allocations import renew_allocations
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM


def daemon(component, node, uid="old"):
    name = f"{component}-{node}-{uid}"
    return make.pod(name, namespace=SYSTEM, on=node, labels=make.labels(component), uid=name)


class Api:
    """Deleted Pods are there for some looks more, beside those that replace them."""

    def __init__(self, *pods, looks=3):
        self.pods, self.looks = list(pods), looks
        self.deleted, self.ending = [], {}

    def list_objects(self, _kinds, _flag):
        for name in [name for name, left in self.ending.items() if left == 0]:
            del self.ending[name]
            (gone,) = [pod for pod in self.pods if pod["metadata"]["name"] == name]
            self.pods.remove(gone)
            component = gone["metadata"]["labels"]["app.kubernetes.io/component"]
            self.pods.append(daemon(component, gone["spec"]["nodeName"], "new"))
        self.ending = {name: left - 1 for name, left in self.ending.items()}
        return list(self.pods)

    def delete(self, _kind, names, *, namespace):
        assert namespace == SYSTEM
        self.deleted.append(sorted(names))
        self.ending |= dict.fromkeys(names, self.looks)


def renewed(api, *nodes):
    table = SimpleNamespace(show=lambda *_, **__: None)
    now = [0.0]
    renew_allocations(
        SimpleNamespace(
            api=api,
            cluster=SimpleNamespace(namespace=SYSTEM, namespace_flag=f"--namespace={SYSTEM}"),
            reporter=SimpleNamespace(waiting=lambda _: contextlib.nullcontext(table)),
            clock=lambda: now[0],
            sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
            retry_while_unreachable=lambda ask, **_: ask(),
        ),
        nodes,
        deadline=60,
    )


def test_the_plugin_is_replaced_after_the_new_helper_is_ready():
    api = Api(*(daemon(component, node) for node in "abc" for component in ("quote-helper", "device-plugin")))
    renewed(api, "a", "c")
    assert api.deleted == [
        ["quote-helper-a-old", "quote-helper-c-old"],
        ["device-plugin-a-old", "device-plugin-c-old"],
    ]
    assert {pod["metadata"]["name"] for pod in api.pods} == {
        *("quote-helper-a-new", "quote-helper-b-old", "quote-helper-c-new"),
        *("device-plugin-a-new", "device-plugin-b-old", "device-plugin-c-new"),
    }

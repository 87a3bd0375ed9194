"""Why a device plugin of ours never takes an ID out of its list: the kubelet does not live through that."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from confcom.playground.layout import DEVICE_PLUGIN_DIR
from e2e import images
from e2e.cluster import Cluster, Shape
from e2e.kubelet_log import LIST_PROCESSED, KubeletLog
from e2e.plugins import waiting_container
from e2e.waiting import until
from testkit.kubelet_contract.plugin import Plugin

RESOURCE = "example.com/withdrawn"


@pytest.fixture
def doomed(cluster: Cluster, request: pytest.FixtureRequest):
    """A cluster of the case's own: one whose kubelet ends by itself ends as a whole."""
    path = Path(tempfile.mkdtemp(prefix="ce2e-"))
    path.rmdir()
    options = request.config.option
    one = Cluster.up(path, Shape(1, options.kubernetes, options.kubelet))
    one.import_image(images.build_all()["sample-workload"])
    yield one
    Cluster.down(path)


@pytest.mark.usefixtures("up_to_1_36")
async def test_an_id_that_is_withdrawn_while_it_is_allocated_ends_the_kubelet(doomed: Cluster, tell) -> None:
    plugin = Plugin(doomed.inside(DEVICE_PLUGIN_DIR), name="withdraws.sock", resource=RESOURCE, ids=["a", "b"])
    plugin.answers.clear()
    await plugin.start()
    log = KubeletLog(doomed.node.kubelet_log)

    def lists() -> int:
        return sum(
            event.message == LIST_PROCESSED and event.values["resourceName"] == RESOURCE for event in log.events()
        )

    await plugin.register()
    await asyncio.to_thread(until, lambda: lists() == 1, "the first list is processed")
    spec = {"containers": [waiting_container(RESOURCE, 2)]}
    pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": spec})
    await asyncio.to_thread(doomed.kubectl, "create", "--filename=-", input=pod)
    await asyncio.wait_for(plugin.asked(), 60)
    plugin.ids = ["c"]
    plugin.send_list()
    await asyncio.to_thread(until, lambda: lists() == 2, "the list without them is processed")
    plugin.answers.set()

    def crash() -> str:
        lines = doomed.node.kubelet_log.read_text(errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("panic:", "[signal SIGSEGV"))), "")

    tell(f"the kubelet: {await asyncio.to_thread(until, crash, 'the kubelet has ended')}")
    await plugin.stop()

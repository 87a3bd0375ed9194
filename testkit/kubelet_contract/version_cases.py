"""Cases for kubelets up to 1.36, and cases for kubelets from 1.37 on, because these kubelets differ.

`make e2e` runs the cases for the real kubelet 1.36.3, and `make e2e-1.37` for 1.37.2; both kubelets pass.
"""

import re

import pytest

from testkit.kubelet_contract.cases import SLEEP, refused
from testkit.kubelet_contract.kubelet import Bench


class UpTo136Contract:
    """Cases for kubelets that identify clients by resource name."""

    async def test_an_old_instances_end_disconnects_the_new_one(self, bench: Bench):
        old = await bench.plugin()
        new = await bench.plugin(("x", "y"), name="two")
        old.end_streams()
        await bench.counted(2, 0)
        await new.stream_lost()
        await new.register()
        await bench.counted(2, 2)

    async def test_the_new_instances_end_takes_everything(self, bench: Bench):
        old = await bench.plugin()
        new = await bench.plugin(("x", "y"), name="two")
        new.end_streams()
        await bench.counted(2, 0)
        await bench.stays(2, 0)
        assert await old.count_streams() == 1
        await bench.registers(old)

    async def test_a_fresh_socket_beside_an_open_stream_is_lost_once(self, bench: Bench):
        former = await bench.plugin()
        fresh = await bench.plugin(("x", "y"), name="two")  # the counts of two devices show this list
        await former.stop()
        await bench.counted(2, 0)
        await fresh.stream_lost()
        last = await bench.plugin(name="three")
        await fresh.stop()
        await bench.stays(4, 4)
        assert await last.count_streams() == 1

    async def test_registering_twice_makes_two_streams(self, bench: Bench):
        plugin = await bench.plugin()
        await plugin.register()
        await bench.until(plugin.count_streams, 2)
        plugin.ids = ["a"]
        plugin.send_list()
        await bench.counted(1, 1)

    async def test_after_a_failed_registration_a_loss_is_missed(self, bench: Bench):
        """A failed registration removes the kubelet's client, so the kubelet keeps offering lost devices."""
        works = await bench.plugin()
        fails = await bench.plugin(name="two", register=False)
        await fails.stop()
        fails.socket.unlink(missing_ok=True)
        await refused(fails)
        works.ids = ["a", "b"]
        works.send_list()
        await bench.counted(2, 2)
        assert (await bench.ended(await bench.run("asks"))).phase == "Succeeded"
        works.end_streams()
        await bench.stays(2, 2)
        assert (await bench.ended(await bench.run("asks-again"))).phase == "Succeeded"
        await works.register()
        await bench.until(works.count_streams, 1)
        works.end_streams()
        await bench.counted(2, 0)


class From137Contract:
    """Cases for kubelets that identify clients by socket path."""

    @pytest.mark.parametrize("ends", ["old", "new"])
    async def test_whoever_is_left_allocates_from_the_new_ones_list(self, bench: Bench, ends: str):
        old = await bench.plugin()
        new = await bench.plugin(("x", "y"), name="two")
        ending, left = (old, new) if ends == "old" else (new, old)
        ending.end_streams()
        await bench.stays(2, 2)
        assert await left.count_streams() == 1
        pod = await bench.run("asks", count=2)
        assert (await bench.ended(pod)).phase == "Succeeded"
        assert [sorted(ids) for ids in left.allocations] == [["x", "y"]]
        assert ending.allocations == []

    async def test_a_fresh_socket_beside_an_open_stream_loses_nothing(self, bench: Bench):
        former = await bench.plugin()
        fresh = await bench.plugin(("x", "y"), name="two")
        await former.stop()
        await bench.stays(2, 2)
        assert await fresh.count_streams() == 1

    async def test_the_last_instances_end_takes_allocatable(self, bench: Bench):
        old = await bench.plugin()
        new = await bench.plugin(name="two")
        pod = await bench.run("holds", SLEEP, 2)
        await bench.phase(pod, "Running")
        old.end_streams()
        await bench.stays(4, 4)
        new.end_streams()
        await bench.counted(4, 0)
        assert (await bench.kubelet.pod(pod)).phase == "Running"
        await bench.registers(old)

    async def test_a_connected_path_is_refused_and_its_loss_missed(self, bench: Bench):
        plugin = await bench.plugin()
        already = f"device plugin already connected: .*{re.escape(plugin.name)}"
        assert re.fullmatch(already, await refused(plugin))
        assert plugin.options_asked == 2
        assert await plugin.count_streams() == 1
        plugin.end_streams()
        await bench.until(plugin.count_streams, 0)
        await bench.stays(4, 4)
        assert re.fullmatch(already, await refused(plugin))
        other = await bench.plugin(name="two")
        assert (await bench.ended(await bench.run("asks"))).phase == "Succeeded"
        assert len(other.allocations) == 1
        other.end_streams()
        await bench.stays(4, 4)

    async def test_a_path_that_was_disconnected_may_come_back(self, bench: Bench):
        plugin = await bench.plugin()
        plugin.end_streams()
        await bench.counted(4, 0)
        await bench.registers(plugin)
        plugin.end_streams()
        await bench.counted(4, 0)

    async def test_a_failed_registration_at_another_path_changes_nothing(self, bench: Bench):
        works = await bench.plugin()
        fails = await bench.plugin(name="two", register=False)
        await fails.stop()
        fails.socket.unlink(missing_ok=True)
        await refused(fails)
        assert (await bench.ended(await bench.run("asks"))).phase == "Succeeded"
        works.end_streams()
        await bench.counted(4, 0)
        await bench.registers(works)

    async def test_after_a_restart_a_path_is_nobodys(self, bench: Bench):
        plugin = await bench.plugin()
        await refused(plugin)
        await bench.restart()
        await bench.comes_back(plugin)

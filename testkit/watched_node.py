"""The playground's node in this process, with everything noted that it does with device plugins."""

import asyncio
import collections
import dataclasses
import itertools
import secrets
import time

from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.kubelet.rules import BackOff
from confcom.playground.node import Node, Timing
from confcom.playground.runtime.container_plan import HOST_DEVICE
from confcom.playground.runtime.images import Image
from confcom.playground.runtime.modes import Mode, choose_mode

IMAGES = {"true": Image(("/bin/true",)), "sleep": Image(("/bin/sleep", "1000"))}
QUICK = Timing(BackOff(0.05, 0.05), BackOff(0.05, 0.5), dial_seconds=5, stop_grace_seconds=300)
PATIENCE_SECONDS = 30.0
"""For what must happen: it takes milliseconds, and the machine may be busy with something else."""


class WatchedNode(Node):
    """A node that keeps a record. Nothing of what it does is changed, but that containers get no SGX device.

    Args:
        layout: its directory, which `create` has made.
        rules: the kubelet's.
    """

    def __init__(self, layout, rules):
        self.allocatable_history = []
        """Monotonic seconds and allocatable, at every change of anything."""
        self.register_calls = collections.Counter()
        """Register calls by resource name, whatever became of them."""
        self.followed = collections.Counter()
        """Open streams by socket path."""
        self.clashes = []
        """Devices that two containers held at once."""
        self.admits = asyncio.Event()
        """While it is not set, Register waits."""
        self.admits.set()
        numbers = itertools.count()
        super().__init__(
            layout,
            IMAGES,
            choose_mode(Mode.NO_NAMESPACE),
            instance=secrets.token_hex(8),
            suffix=lambda: f"{next(numbers):05}",
            rules=rules,
            timing=QUICK,
        )
        self.rules: KubeletRules = rules
        self._allocate, self._devices.allocate = self._devices.allocate, self._allocate_without_sgx
        self._register, self._devices.register = self._devices.register, self._noted_register
        self._follow, self._devices._follow = self._devices._follow, self._noted_follow

    async def _noted_register(self, request, context):
        self.register_calls[request.resource_name] += 1
        self._changed()
        await self.admits.wait()
        return await self._register(request, context)

    async def _allocate_without_sgx(self, pod, container, requests):
        """This machine has no SGX: whatever device a plugin names, the container gets what simulated ones get."""
        allocation = await self._allocate(pod, container, requests)
        devices = (dataclasses.replace(device, host_path=HOST_DEVICE) for device in allocation.devices)
        return dataclasses.replace(allocation, devices=tuple(devices))

    async def _noted_follow(self, client):
        self.followed[client.socket] += 1
        self._changed()
        try:
            await self._follow(client)
        finally:
            self.followed[client.socket] -= 1
            self._changed()

    def _changed(self):
        self.allocatable_history.append((time.monotonic(), self._ledger.allocatable()))
        held = collections.Counter((h.resource, device) for h in self._ledger._holdings for device in h.ids)
        self.clashes += [device for device, times in held.items() if times > 1]
        super()._changed()

    def held(self, pod):
        """The devices that a pod holds: (container, resource, IDs)."""
        return [(h.container, h.resource, h.ids) for h in self._ledger._holdings if h.pod == pod]

    def asked(self, resource):
        """The socket of the plugin that would be asked to allocate, or None."""
        client = self._devices._registry.endpoint(resource)
        return None if client is None else client.socket

    def registered_sockets(self):
        """The sockets of everyone who is in the kubelet's books."""
        return {client.socket for client in self._devices._registry.clients()}

    async def until(self, predicate, seconds=PATIENCE_SECONDS):
        """The first state for which the predicate holds, looked at after every change."""
        async with asyncio.timeout(seconds):
            state = self.state()
            while not predicate(state):
                state = await self.changed_since(state.revision, seconds)
        return state

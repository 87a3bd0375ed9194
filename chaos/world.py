"""A node, its kubelet and the plugins on it, and what must hold once nothing is disturbed any more.

The model is the real kubelet, by `confcom.playground.kubelet.plugin_registry` and these rules of it:

* a start unlinks every socket and forgets every plugin, and no allocation;
* a stream that ends takes its resource's allocatable devices: up to 1.36 whoever's it was, from 1.37 on the last one;
* a device that is lost leaves its capacity and takes what is allocatable; who runs with it stays;
* a registration socket that is removed does not come back before the kubelet restarts;
* a pod that is refused at its admission is rejected for good; one that does not fit waits; running pods stay.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path

from chaos.books import wrong_allocatable, wrong_streams
from chaos.disturbance import Disturbance
from chaos.instance import LOOKS_OFTEN, Instance
from chaos.watched_node import PATIENCE_SECONDS, WatchedNode
from confcom.device_plugin.resources import ENCLAVE_RESOURCE, EPC_RESOURCE
from confcom.kubelet_api.services import KUBELET_SOCKET_NAME
from confcom.playground.api.views import Phase
from confcom.playground.layout import Layout
from confcom.playground.node import NAME
from testkit.hosts.tree import MIB, HostTree

EPC_MIB = 8
"""Small, so that pods compete."""
AS_DEVICES, AS_CAPACITY = "devices", "capacity"
"""How the plugins count EPC. As capacity, EPC is no device, and pods take the enclave device."""
RESOURCES = {AS_DEVICES: 3, AS_CAPACITY: 2}
"""EPC, enclave and provision, or the last two: each is registered by itself."""
TAKEN = {AS_DEVICES: EPC_RESOURCE, AS_CAPACITY: ENCLAVE_RESOURCE}
"""What pods ask for: EPC_MIB devices of it."""
MAX_INSTANCES = 3
MAX_PODS = 6
POLL_SECONDS = 0.02
"""How long a look at the plugins may be old: they tell nobody when they change."""
MAX_REGISTRATIONS = 4
"""Of a resource, per instance and disturbance. A lost stream costs one, a lost socket one, and a kubelet that wipes the
directory after it was registered with another; a hand-over up to 1.36 costs each instance one more."""
REJECTIONS = (
    "no healthy devices present",
    "requested number of devices unavailable",
    "has been stopped",
    "rpc error: code = Unavailable",
    "rpc error: code = Canceled",
)
"""Why the kubelet's rules allow that a pod is rejected while plugins come and go."""


class BrokenInvariantError(AssertionError):
    """What must hold does not.

    Args:
        codes: one for each thing that does not hold.
        text: all of them, for people.
    """

    def __init__(self, codes, text):
        super().__init__(text)
        self.codes = set(codes)


class World:
    """One node in a directory of its own.

    Args:
        rules: the kubelet's.
        program: how an instance is started: arguments of python.
        accounting: how the plugins count EPC.
    """

    def __init__(self, rules, *, program=LOOKS_OFTEN, accounting=AS_DEVICES):
        self.done = Counter()
        """Disturbances so far."""
        self.started = 0
        """Instances so far."""
        self.submitted = 0
        """Pods so far."""
        self._rules = rules
        self._program = program
        self._accounting = accounting
        self._taken = TAKEN[accounting]
        self.patience = PATIENCE_SECONDS
        """Seconds until what is disturbed has settled."""
        self._layout = Layout(Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp")))
        self._layout.create()
        self._host = HostTree(self._layout.directory / "host")
        self._host.set_epc(EPC_MIB * MIB)
        self._node = WatchedNode(self._layout, rules)
        self._instances = []
        self._pods = {}
        """Name -> the devices that it was first seen to hold."""
        self._reasons = {}
        """Why pods were rejected, by name."""
        self._reachable = True
        """Whether the kubelet's registration socket is where it belongs."""
        self._has_device = False

    @property
    def register_calls(self):
        """Register calls so far, of all resources."""
        return self._node.register_calls.total()

    @property
    def rejected(self):
        """How many of the pods the kubelet rejected, by why."""
        return Counter(self._reasons.values())

    async def open(self):
        """Start the kubelet and the first instance."""
        await self._node.start()
        await self._do(Disturbance.RETURN_DEVICE, 0)
        await self._start_instance()
        await self._instances[0].ready()
        await self._settle(MAX_REGISTRATIONS, Counter())

    async def close(self):
        """End everything and leave nothing."""
        for instance in self._instances:
            await instance.end()
        await self._node.stop()
        shutil.rmtree(self._layout.directory)

    async def disturb(self, *steps):
        """Do these, one right after another; then wait until all has settled, and see whether all holds.

        Args:
            steps: pairs of a disturbance and a number that picks what it is done to.

        Raises:
            BrokenInvariantError: something does not hold.
        """
        before = Counter(self._node.register_calls)
        living = len(self._living)
        for disturbance, number in steps:
            self.done[disturbance] += await self._do(disturbance, number)
        instances = living + sum(disturbance is Disturbance.START for disturbance, _ in steps)
        await self._settle(MAX_REGISTRATIONS * len(steps) * instances, before)

    @property
    def _living(self):
        return [instance for instance in self._instances if instance.alive]

    async def _start_instance(self):
        self.started += 1
        name = f"p{self.started}"
        self._instances = [*self._living, await self._new_instance(name)]

    def _new_instance(self, name):
        arguments = ("--accounting", self._accounting)
        if self._accounting == AS_CAPACITY:
            arguments += ("--enclave-users", str(EPC_MIB))
        return Instance.start_on(self._layout, name, *arguments, program=self._program)

    async def _do(self, disturbance, number):
        """Returns whether anything was done."""
        match disturbance:
            case Disturbance.KUBELET_RESTART:
                await self._node.restart_kubelet()
                self._reachable = True
            case Disturbance.START if len(self._living) < MAX_INSTANCES:
                await self._start_instance()
            case Disturbance.KILL | Disturbance.TERMINATE if living := self._living:
                ending = signal.SIGKILL if disturbance is Disturbance.KILL else signal.SIGTERM
                await living[number % len(living)].end(ending)
            case Disturbance.REMOVE_PLUGIN_SOCKET if sockets := self._plugin_sockets():
                sockets[number % len(sockets)].unlink(missing_ok=True)
            case Disturbance.REMOVE_KUBELET_SOCKET if self._reachable:
                self._layout.kubelet_socket.unlink()
                self._reachable = False
            case Disturbance.REMOVE_EVERY_SOCKET:
                for path in [*self._plugin_sockets(), self._layout.kubelet_socket]:
                    path.unlink(missing_ok=True)
                self._reachable = False
            case Disturbance.LOSE_DEVICE if self._has_device:
                self._host.unload()
                self._has_device = False
            case Disturbance.RETURN_DEVICE if not self._has_device:
                self._host.load()
                self._has_device = True
            case _:
                return await self._do_to_pods(disturbance, number)
        return True

    async def _do_to_pods(self, disturbance, number):
        match disturbance:
            case Disturbance.SUBMIT | Disturbance.SUBMIT_PAST_SCHEDULER if len(self._pods) < MAX_PODS:
                self._submit(1 + number % 4, past_scheduler=disturbance is Disturbance.SUBMIT_PAST_SCHEDULER)
            case Disturbance.DELETE if self._pods:
                name = sorted(self._pods)[number % len(self._pods)]
                del self._pods[name]
                await self._node.delete("pod", name, 0)
            case _:
                return False
        return True

    def _plugin_sockets(self):
        directory = self._layout.device_plugin_dir
        return sorted(path for path in directory.iterdir() if path.is_socket() and path.name != KUBELET_SOCKET_NAME)

    def _submit(self, mib, *, past_scheduler):
        self.submitted += 1
        name = f"pod{self.submitted}"
        container = {"name": "main", "image": "sleep", "resources": {"limits": {self._taken: mib}}}
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
        if past_scheduler:
            spec["nodeName"] = NAME
        self._node.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
        self._pods[name] = None

    async def _settle(self, limit, before):
        deadline = asyncio.get_running_loop().time() + self.patience
        while True:
            revision = self._node.state().revision
            self._see_that_nothing_is_wrong(limit, before)
            missing = [*self._missing_pods(), *(await self._missing_registrations())]
            changed = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    changed = (await self._node.changed_since(revision, POLL_SECONDS)).revision != revision
            if not missing and not changed:
                return
            if asyncio.get_running_loop().time() > deadline:
                told = "; ".join(text for _, text in missing) or "no rest"
                raise BrokenInvariantError(
                    {"not-settled", *(code for code, _ in missing)},
                    f"not settled after {self.patience} s: {told}{self._logs()}",
                )

    def _logs(self):
        last = {one.log.name: one.log.read_text().splitlines()[-6:] for one in self._living}
        return "".join(f"\n{name}: {line}" for name, lines in last.items() for line in lines)

    def _see_that_nothing_is_wrong(self, limit, before):
        """What holds at every moment."""
        if self._node.clashes:
            raise BrokenInvariantError({"held-twice"}, f"held by two containers at once: {self._node.clashes}")
        self._see_what_is_registered(limit, before)
        state = self._node.state()
        for name in self._pods:
            pod, held = state.pod(name), self._node.held(name)
            if pod is None:
                raise BrokenInvariantError({"pod-lost"}, f"{name} is lost")
            if pod.phase is Phase.RUNNING and self._pods[name] is None:
                self._pods[name] = held
            devices = self._pods[name]
            if devices is not None and (pod.phase is not Phase.RUNNING or held != devices):
                told = f"{name} ran with {devices}; it is {pod.phase} with {held}: {pod.message}"
                raise BrokenInvariantError({"pod-changed"}, told)
            if pod.phase is Phase.FAILED:
                reasons = [reason for reason in REJECTIONS if reason in pod.message]
                if pod.reason != "UnexpectedAdmissionError" or not reasons:
                    raise BrokenInvariantError({"pod-failed"}, f"{name} has failed: {pod.reason}, {pod.message}")
                self._reasons[name] = reasons[0]

    def _see_what_is_registered(self, limit, before):
        for resource, calls in self._node.register_calls.items():
            if calls - before[resource] > limit:
                told = f"{resource} was registered {calls - before[resource]} times, at most {limit} are due"
                raise BrokenInvariantError({"registered-too-often"}, told + self._logs())
        if self._accounting == AS_CAPACITY and self._node.register_calls[EPC_RESOURCE]:
            raise BrokenInvariantError({"epc-registered"}, "EPC that is counted as capacity was registered as devices")

    def _missing_pods(self):
        """Pods that are neither running, nor rejected, nor waiting for a reason that holds."""
        state = self._node.state()
        pods = {name: state.pod(name) for name in self._pods}
        free = state.node.allocatable.get(self._taken, 0) - sum(
            pod.requested[self._taken] for pod in pods.values() if pod.phase is Phase.RUNNING
        )
        return [
            ("pod-waits", f"{name} is {pod.phase} {pod.reason}, and {free} are free")
            for name, pod in pods.items()
            if pod.phase is Phase.PENDING and not (pod.reason == "Unschedulable" and pod.requested[self._taken] > free)
        ]

    async def _missing_registrations(self):
        missing, current = [], set()
        for instance in self._living:
            resources = await instance.resources()
            # One that has begun without the device knows of no resource yet.
            if len(resources) != RESOURCES[self._accounting] and (resources or self._has_device):
                missing.append(("silent", f"{instance.log.name} does not answer"))
            for one in resources.values():
                if one["registered"]:
                    current.add(self._layout.device_plugin_dir / one["socket"])
                missing += self._wrong_with(one)
        if self._reachable:
            missing += wrong_streams(self._node, current)
        served = self._reachable and self._has_device and bool(self._living)
        return [*missing, *wrong_allocatable(self._node, current, taken=self._taken, count=EPC_MIB, served=served)]

    def _wrong_with(self, resource):
        """What an instance must not say of a resource."""
        name, problem = resource["name"], resource["problem"]
        if resource["registered"]:
            if not self._has_device:
                yield "registered-without-device", f"{name} is registered without the device"
            if not (self._layout.device_plugin_dir / resource["socket"]).is_socket():
                yield "socket-gone", f"{name} is registered with {resource['socket']}, which is gone"
        elif not self._has_device:
            if resource["code"] != "driver-unloaded":
                yield "loss-not-told", f"{name} does not say that the device is lost: {problem}"
        elif self._reachable:
            yield "not-registered", f"{name} is not registered: {problem}"
        elif resource["code"] != "kubelet-absent":
            yield "absence-not-told", f"{name} does not say that kubelet.sock is missing: {problem}"

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from confcom.kubelet_api.checkpoint import CHECKPOINT_NAME, decode_checkpoint
from confcom.kubelet_api.services import KUBELET_SOCKET_NAME


@dataclasses.dataclass(frozen=True, slots=True)
class PodSeen:
    phase: str
    reason: str
    message: str
    restarts: int = 0


@dataclasses.dataclass(slots=True)
class Bench:
    """A kubelet, and the steps that the cases share."""

    kubelet: Any
    """A node and its kubelet, with the device plugin `directory`, an `image` that has /bin/sh, and the `node_name`.
    The limits are in seconds: for any event (`patience`), for a change to be in the API (`report_seconds`), and for
    the removal of a resource after its plugin's end (`removal_patience`). The coroutine `counts` gives a resource's
    capacity and allocatable amount, or None for a missing amount. `apply`, `pod` (which gives a PodSeen) and `log`
    handle pods. `delete` returns when the pod is gone, and `restart` when the kubelet answers again."""
    make_plugin: Callable[..., Awaitable[Any]]
    unique: str
    """Text in every name that a case uses, so that the names of different cases differ."""
    words: bool = True
    """Whether cases also compare the words of messages, in addition to the outcome."""
    _pods: list[str] = dataclasses.field(default_factory=list)

    @property
    def resource(self) -> str:
        return f"example.com/{self.unique}"

    def recorded(self) -> tuple[int | None, list[str] | None]:
        found = decode_checkpoint((self.kubelet.directory / CHECKPOINT_NAME).read_bytes())
        held = found.held.get(self.resource)
        return found.registered.get(self.resource), None if held is None else sorted(held)

    async def plugin(self, ids: Sequence[str] = ("a", "b", "c", "d"), *, name: str = "one", register: bool = True):
        """Start a plugin for this case's resource; by default register it, and wait for the node's counts."""
        made = await self.make_plugin(
            self.kubelet.directory, name=f"{self.unique}-{name}.sock", resource=self.resource, ids=ids
        )
        if register:
            await self.registers(made)
        return made

    async def registers(self, plugin) -> None:
        await plugin.register()
        await self.counted(len(plugin.ids), len(plugin.ids))

    async def comes_back(self, plugin) -> None:
        """Stop a plugin, start it again, and wait until the node's counts include its devices."""
        await plugin.stop()
        await plugin.start()
        await self.registers(plugin)

    async def counted(self, capacity: int | None, allocatable: int | None) -> None:
        await self.until(lambda: self.kubelet.counts(self.resource), (capacity, allocatable))

    def says(self, message: str, wanted: str) -> None:
        """Check that a Kubernetes message has these words, unless `words` is false."""
        assert not self.words or wanted in message, message

    async def stays(self, capacity: int, allocatable: int) -> None:
        """Check that the counts do not change in the time that the kubelet may take to report a change."""
        ends = time.monotonic() + self.kubelet.report_seconds
        while time.monotonic() < ends:
            assert await self.kubelet.counts(self.resource) == (capacity, allocatable)
            await asyncio.sleep(self.kubelet.report_seconds / 10)

    async def until(self, look: Callable[[], Awaitable[Any]], wanted: Any, patience: float | None = None) -> Any:
        patience = patience or self.kubelet.patience
        started = time.monotonic()
        while True:
            seen = await look()
            if wanted(seen) if callable(wanted) else seen == wanted:
                return seen
            assert time.monotonic() - started < patience, f"waited for {wanted}; saw last: {seen}"
            await asyncio.sleep(self.kubelet.patience / 400)

    async def run(self, name: str, script: str = "true", count: int = 1, **spec: Any) -> str:
        return await self.run_several(name, {"main": (script, count)}, **spec)

    async def run_several(self, name: str, containers: Mapping[str, tuple[str, int]], **spec: Any) -> str:
        pod = f"{self.unique}-{name}"
        self._pods.append(pod)
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": container,
                        "image": self.kubelet.image,
                        "imagePullPolicy": "Never",
                        "command": ["/bin/sh", "-c", script],
                        "resources": {"limits": {self.resource: count}} if count else {},
                    }
                    for container, (script, count) in containers.items()
                ],
                **spec,
            },
        }
        await self.kubelet.apply(json.loads(json.dumps(manifest)))
        return pod

    async def phase(self, pod: str, *phases: str) -> PodSeen:
        return await self.until(lambda: self.kubelet.pod(pod), lambda seen: seen.phase in phases)

    async def ended(self, pod: str) -> PodSeen:
        return await self.phase(pod, "Succeeded", "Failed")

    async def restart(self) -> None:
        """Restart the kubelet; return when the kubelet accepts registrations again."""
        before = self._registration_socket()
        await self.kubelet.restart()

        async def look() -> object:
            return self._registration_socket()

        await self.until(look, lambda now: now not in {None, before})

    def _registration_socket(self) -> tuple[int, int] | None:
        try:
            status = (self.kubelet.directory / KUBELET_SOCKET_NAME).lstat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_ctime_ns

    async def clean(self) -> None:
        for pod in self._pods:
            await self.kubelet.delete(pod)

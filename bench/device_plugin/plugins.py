"""The device plugins that are measured, as processes on the server's core: confcom's, and the minimal one in Go."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.beside import Checkout
from bench.device_plugin.kubelet import MeasuringKubelet, MissingError
from bench.load import WrongAnswerError
from bench.machine import on_core, with_byte_code
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import device_id
from e2e.processes import end
from testkit.helper_process import http_get

EPC_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
BUDGET = "CONFCOM_SGX_EPC_MIB"
STOP_SECONDS = 10.0
"""After SIGTERM; both end in milliseconds."""
BYTE_CODE = "byte-code"
"""Folder beside the places. Images have byte code of everything; here the first start writes it, which is `offer_of`'s,
and nothing is timed in that. Without it a start compiles confcom, and takes twice as long."""
ENCLAVE_NODES = {"/dev/sgx_enclave", "/dev/sgx/enclave"}

Command = Callable[[Path], tuple[Sequence[str], Mapping[str, str]]]
"""A plugin's command line and variables, for a device plugin directory; it may make files of its own beside that."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What confcom offers on a node of one size: what both plugins must list and answer.

    Args:
        counts: devices of each resource.
        answers: what a container gets for one device of each resource.
    """

    counts: dict[str, int]
    answers: dict[str, pb.ContainerAllocateResponse]

    @property
    def devices(self) -> int:
        """Devices of the EPC resource."""
        return self.counts[EPC_RESOURCE]

    def request(self, size: int, turn: int) -> bytes:
        """Allocate for so many devices of EPC, spread over all and other ones at every turn, encoded."""
        step = self.devices // size
        ids = [device_id((turn + index * step) % self.devices) for index in range(size)]
        return _allocate_request(ids)

    def check_answer(self, encoded: bytes, size: int) -> None:
        """See that an encoded answer is the one for so many devices of EPC."""
        wanted = pb.ContainerAllocateResponse()
        wanted.CopyFrom(self.answers[EPC_RESOURCE])
        wanted.envs[BUDGET] = str(size)
        if pb.AllocateResponse.FromString(encoded) != pb.AllocateResponse(container_responses=[wanted]):
            raise WrongAnswerError(f"Allocate of {size} devices is answered with something else")

    def check_list(self, encoded: bytes, resource: str) -> None:
        """See that a list holds all devices of a resource, healthy."""
        devices = pb.ListAndWatchResponse.FromString(encoded).devices
        wanted = [device_id(index) for index in range(self.counts[resource])]
        if [device.ID for device in devices] != wanted or any(device.health != "Healthy" for device in devices):
            raise WrongAnswerError(f"the list of {resource} is not that of {len(wanted)} healthy devices")


@dataclass(frozen=True, slots=True)
class Running:
    """A plugin that runs.

    Args:
        pid: its process.
        kubelet: the one that it was started for.
        started: before fork() and exec(), in time.perf_counter()'s seconds.
    """

    pid: int
    kubelet: MeasuringKubelet
    started: float


def confcom_command(mib: int, checkout: Checkout) -> Command:
    """A checkout's device plugin on a simulated node of this size, its probes answered and its log in a file."""

    def command(directory: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        host = directory.parent / "host"  # an empty one, for a machine with an SGX driver would refuse to be simulated
        host.mkdir()
        line = [
            *(checkout.python, "-m", "confcom.device_plugin", "--simulated", "--simulated-epc-mib", str(mib)),
            *("--max-epc-mib", str(mib), "--device-plugin-dir", str(directory), "--host-root", str(host)),
            *("--probe-address", f"unix:{directory.parent / 'probes'}"),
        ]
        return line, checkout.environment

    return command


def go_command(program: Path, offer: Offer) -> Command:
    """The Go plugin, told to offer the same."""

    def command(directory: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        arguments = [str(program), "-directory", str(directory)]
        for index, (name, count) in enumerate(offer.counts.items()):
            answer = directory.parent / f"answer-{index}"
            answer.write_bytes(offer.answers[name].SerializeToString())
            arguments += ["-resource", f"{name},{count},{answer}"]
        return arguments, os.environ

    return command


@contextlib.contextmanager
def running(command: Command, place: Path, *, core: int) -> Iterator[Running]:
    """Start a plugin for a kubelet of its own that listens already, and end both.

    Args:
        command: makes its command line.
        place: a directory that is not there yet, with a short path.
        core: where the plugin runs.

    Raises:
        MissingError: what the block waited for did not happen; with the plugin's log.
    """
    directory = place / "kubelet"
    directory.mkdir(parents=True)
    line, variables = command(directory)
    environ = with_byte_code(place.parent / BYTE_CODE, variables)
    with MeasuringKubelet(directory) as kubelet, (place / "log").open("wb") as log:
        with on_core(core):
            started = time.perf_counter()
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=log, env=environ)
        try:
            yield Running(process.pid, kubelet, started)
        except MissingError as error:
            raise MissingError(f"{error}; the plugin's log: {(place / 'log').read_text()}") from error
        finally:
            end(process, STOP_SECONDS)


def offer_of(command: Command, place: Path, *, core: int) -> Offer:
    """Ask a plugin of confcom what it offers.

    Raises:
        WrongAnswerError: it offers no EPC, or answers without the devices or the budget.
    """
    with running(command, place, core=core) as plugin:
        plugin.kubelet.registered([EPC_RESOURCE])
        status, text = http_get(place / "probes", "/inventory")
        counts = {resource["name"]: int(resource["count"]) for resource in json.loads(text)["resources"]}
        registrations = plugin.kubelet.registered(counts)
        request = _allocate_request([device_id(0)])
        answers = {
            name: pb.AllocateResponse.FromString(registration.allocate(request)).container_responses[0]
            for name, registration in registrations.items()
        }
    epc = answers[EPC_RESOURCE]
    if status != 200 or epc.envs[BUDGET] != "1" or {device.container_path for device in epc.devices} != ENCLAVE_NODES:
        raise WrongAnswerError(f"a container with one device of {EPC_RESOURCE} gets {epc}")
    return Offer(counts, answers)


def _allocate_request(ids: Sequence[str]) -> bytes:
    container = pb.ContainerAllocateRequest(devices_ids=ids)
    return pb.AllocateRequest(container_requests=[container]).SerializeToString()

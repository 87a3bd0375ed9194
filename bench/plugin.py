"""The device plugin on nodes of several sizes, beside a minimal plugin in Go, with a measuring kubelet."""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import bare
from bench.bare import BareInterpreter
from bench.kubelet import MeasuringKubelet, Registration
from bench.load import Latency, WrongAnswerError
from bench.machine import OTHER, THIS, Checkout, Cores, SchedulerTimes, on_core, resident_bytes, with_byte_code
from bench.report import Goal, Section, in_turn, say
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import device_id
from e2e import packages
from e2e.waiting import end
from testkit.helper_process import http_get

USUAL_MIB, LARGEST_MIB = (168, 1_024, 2_048), 262_144
"""Nodes' EPC in MiB. 168 is a Standard_DC8_v2, 2,048 the default maximum. The largest node is measured in one
round, to show the cost of size, and has no goals."""
ALLOCATIONS = {10: 400, 1_024: 100}
"""Number of Allocate calls per round, keyed by the number of devices of a small and a large container."""
STREAM_AGE_SECONDS = 1.1
"""Seconds before a test may end a stream: after a stream shorter than 1 s, the plugin delays its Register."""
STOP_SECONDS = 10.0
"""Seconds for the plugin to end after SIGTERM; usually it needs milliseconds."""

EPC_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
BUDGET = "CONFCOM_SGX_EPC_MIB"
ENCLAVE_NODES = {"/dev/sgx_enclave", "/dev/sgx/enclave"}
GO = "minimal in Go"
GO_SOURCE = Path(__file__).with_name("go_plugin")

START, AGAIN, MEMORY = "exec() to registered, all resources", "stream lost to registered again", "resident memory"
BESIDE_GO = {size: f"Allocate of {size:,}, p50, in the time of the Go plugin" for size in ALLOCATIONS}
GOALS = {**bare.GOALS, **dict.fromkeys(BESIDE_GO.values(), Goal(2.0))}

CommandLine = tuple[Sequence[str], Mapping[str, str]]
"""Command line and variables of a plugin."""
Command = Callable[[Path], CommandLine]
"""Function that returns the command line for a plugin directory; the function may make files beside it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Resources that confcom offers on a node of one size, and the answer for one device of each resource."""

    counts: dict[str, int]
    answers: dict[str, pb.ContainerAllocateResponse]

    def request(self, size: int, turn: int) -> bytes:
        """Allocate this many EPC devices, spread over the whole list; every turn takes different devices."""
        devices = self.counts[EPC_RESOURCE]
        step = devices // size
        return _allocate_request([device_id((turn + index * step) % devices) for index in range(size)])

    def check_answer(self, encoded: bytes, size: int) -> None:
        """Fail if this is not the right answer for this number of EPC devices."""
        wanted = pb.ContainerAllocateResponse()
        wanted.CopyFrom(self.answers[EPC_RESOURCE])
        wanted.envs[BUDGET] = str(size)
        if pb.AllocateResponse.FromString(encoded) != pb.AllocateResponse(container_responses=[wanted]):
            raise WrongAnswerError(f"Allocate of {size} devices is answered with something else")

    def check_list(self, encoded: bytes, resource: str) -> None:
        """Fail if this list does not have all devices of a resource, all of them healthy."""
        devices = pb.ListAndWatchResponse.FromString(encoded).devices
        wanted = [device_id(index) for index in range(self.counts[resource])]
        if [device.ID for device in devices] != wanted or any(device.health != "Healthy" for device in devices):
            raise WrongAnswerError(f"the list of {resource} is not that of {len(wanted)} healthy devices")


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    kubelet: MeasuringKubelet
    started: float


def measure_plugins(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    cores = Cores()
    places = (directory / str(number) for number in itertools.count())
    program = directory / "go-plugin"
    has_go = build_go_plugin(program)
    sections = []
    with on_core(cores.clients):
        for mib in (*USUAL_MIB, LARGEST_MIB):
            section = Section(f"Device plugin, {mib:,} MiB", [THIS, OTHER, GO], {} if mib == LARGEST_MIB else GOALS)
            commands: dict[str, Command] = {side: partial(confcom_plugin, mib, each) for side, each in sides.items()}
            offers, interpreters = dict[str, Offer](), dict[str, BareInterpreter]()
            for side, checkout in sides.items():
                place = next(places)
                offers[side] = offer_of(partial(confcom_plugin, mib, checkout.with_import_times()), place, cores.server)
                interpreters[side] = BareInterpreter.of(place / "log", checkout, directory, cores.server)
                interpreters[side].start()
            if has_go:
                offers[GO] = offers[THIS]
                commands[GO] = partial(minimal_plugin, program, offers[GO])
            for number in range(rounds):
                say(f"{mib} MiB: round {number + 1} of {rounds} over {len(commands)} plugins")
                for side in in_turn(commands, number):
                    with running(commands[side], next(places), cores.server) as plugin:
                        measure_once(section, side, plugin, offers[side])
                for side, interpreter in interpreters.items():
                    seconds, resident = interpreter.start()
                    section.add(side, bare.START, "x", section.rows[START].values[side][-1] / seconds / 1e3)
                    section.add(side, bare.MEMORY, "x", section.rows[MEMORY].values[side][-1] * 1e6 / resident)
            compare_with_go(section, sides)
            sections.append(section)
    return sections


def compare_with_go(section: Section, sides: Iterable[str]) -> None:
    for size, title in BESIDE_GO.items():
        row = section.rows.get(f"Allocate of {size:,}, p50")
        if row is not None and GO not in row.values:
            section.leave_out(title, "x", "no Go here")
        elif row is not None:
            for side in sides:
                section.add(side, title, "x", *map(operator.truediv, row.values[side], row.values[GO]))


def measure_once(section: Section, side: str, plugin: Running, offer: Offer) -> None:
    """Take all measurements of a plugin that has just been started."""
    registrations = plugin.kubelet.registered(offer.counts)
    registered_at, start_cpu = time.perf_counter(), SchedulerTimes.of(plugin.pid).running
    for name, registration in registrations.items():
        offer.check_list(registration.encoded_list, name)
    start = max(registration.answered for registration in registrations.values()) - plugin.started
    epc = registrations[EPC_RESOURCE]
    section.add(side, START, "ms", start * 1e3)
    section.add(side, "CPU of it", "ms", start_cpu * 1e3)
    section.add(side, "Register to first list received whole", "ms", (epc.listed - epc.asked) * 1e3)
    for size, times in ALLOCATIONS.items():
        if size <= offer.counts[EPC_RESOURCE]:
            latency = _allocate(epc, offer, size, times)
            section.add(side, f"Allocate of {size:,}, p50", "ms", latency.p50 * 1e3)
            section.add(side, f"Allocate of {size:,}, p99", "ms", latency.p99 * 1e3)
    time.sleep(max(0.0, registered_at + STREAM_AGE_SECONDS - time.perf_counter()))
    section.add(side, AGAIN, "ms", plugin.kubelet.seconds_to_reregister(EPC_RESOURCE) * 1e3)
    section.add(side, MEMORY, "MB", resident_bytes(plugin.pid) / 1e6)


def _allocate(epc: Registration, offer: Offer, size: int, times: int) -> Latency:
    call = epc.allocate
    requests = [offer.request(size, turn) for turn in range(times)]
    answered = []
    for request in requests:
        began = time.perf_counter()
        answer = call(request)
        answered.append((time.perf_counter() - began, answer))
    for _, answer in answered:
        offer.check_answer(answer, size)
    return Latency.of([seconds for seconds, _ in answered])


def confcom_plugin(mib: int, checkout: Checkout, directory: Path) -> CommandLine:
    """A checkout's device plugin on a simulated node of this size, with answered probes."""
    host = directory.parent / "host"  # an empty folder, because no plugin simulates SGX beside an SGX driver
    host.mkdir()
    line = [
        *(checkout.python, "-m", "confcom.device_plugin", "--simulated", "--simulated-epc-mib", str(mib)),
        *("--max-epc-mib", str(mib), "--device-plugin-dir", str(directory), "--host-root", str(host)),
        *("--probe-address", f"unix:{directory.parent / 'probes'}"),
    ]
    return line, checkout.environment


def minimal_plugin(program: Path, offer: Offer, directory: Path) -> CommandLine:
    line = [str(program), "-directory", str(directory)]
    for index, (name, count) in enumerate(offer.counts.items()):
        answer = directory.parent / f"answer-{index}"
        answer.write_bytes(offer.answers[name].SerializeToString())
        line += ["-resource", f"{name},{count},{answer}"]
    return line, os.environ


@contextlib.contextmanager
def running(command: Command, place: Path, core: int) -> Iterator[Running]:
    """Start a plugin while the kubelet already listens, and end both after the block."""
    directory = place / "kubelet"
    directory.mkdir(parents=True)
    line, variables = command(directory)
    environ = with_byte_code(place.parent, variables)
    kubelet = MeasuringKubelet(directory)
    with kubelet.serving(), (place / "log").open("wb") as log:
        with on_core(core):
            started = time.perf_counter()
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=log, env=environ)
        try:
            yield Running(process.pid, kubelet, started)
        except WrongAnswerError as error:
            raise WrongAnswerError(f"{error}; the plugin's log: {(place / 'log').read_text()}") from error
        finally:
            end(process, STOP_SECONDS)


def offer_of(command: Command, place: Path, core: int) -> Offer:
    """Ask a plugin of confcom for its offer. This start also compiles byte code, which images contain."""
    with running(command, place, core) as plugin:
        plugin.kubelet.registered([EPC_RESOURCE])
        _, text = http_get(place / "probes", "/inventory")
        counts = {resource["name"]: int(resource["count"]) for resource in json.loads(text)["resources"]}
        request = _allocate_request([device_id(0)])
        answers = {
            name: pb.AllocateResponse.FromString(registration.allocate(request)).container_responses[0]
            for name, registration in plugin.kubelet.registered(counts).items()
        }
    epc = answers[EPC_RESOURCE]
    if epc.envs[BUDGET] != "1" or {device.container_path for device in epc.devices} != ENCLAVE_NODES:
        raise WrongAnswerError(f"a container with one device of {EPC_RESOURCE} gets {epc}")
    return Offer(counts, answers)


def _allocate_request(ids: Sequence[str]) -> bytes:
    container = pb.ContainerAllocateRequest(devices_ids=ids)
    return pb.AllocateRequest(container_requests=[container]).SerializeToString()


def build_go_plugin(program: Path) -> bool:
    """Build the Go plugin from its pinned modules, with Go's own cache. Without Go, do nothing."""
    go = packages.find("go") or shutil.which("go", path="/usr/local/go/bin")
    say("building the Go plugin" if go else "no Go here (the version is in bench/go_plugin/go.mod): not beside it")
    if go is None:
        return False
    flags = ("-trimpath", "-ldflags", "-s -w")  # build a reproducible and small program, as for an image
    command, environ = [go, "build", *flags, "-o", str(program), "."], {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(command, cwd=GO_SOURCE, env=environ, check=True)
    return True

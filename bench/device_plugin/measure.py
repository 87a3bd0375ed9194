"""What is measured of device plugins, alternating between them, on one machine in one run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.beside import Checkout, Pair, megabytes, milliseconds
from bench.device_plugin.go_build import GoPlugin
from bench.device_plugin.kubelet import Registration
from bench.device_plugin.plugins import EPC_RESOURCE, Command, Offer, confcom_command, go_command, offer_of, running
from bench.machine import Cores, SchedulerTimes, cpu_when_idle, describe_machine, load_average, on_core, resident_bytes
from bench.rounds import in_turn
from bench.summary import Latency, Spread
from confcom.errors import UnavailableError

CONFCOM, BESIDE, GO = "confcom", "beside", "go"
"""Keys of the plugins: this checkout's, another one's, and the minimal one."""
FEW, MANY = 10, 1_024
"""Device IDs in one Allocate: a small container's, and a large one's."""
STREAM_AGE_SECONDS = 1.1
"""A stream that is lost earlier than after 1 s is not a steady registration, and the plugin waits before the next."""


@dataclass(frozen=True, slots=True)
class PluginPlan:
    """How much is measured."""

    mib: Sequence[int] = (168, 1_024, 2_048)
    """Sizes of nodes; 168 MiB is a Standard_DC8_v2, 2,048 the most that is advertised by default."""
    largest_mib: int = 262_144
    """Measured in one round, to show what depends on the size; 0: left out."""
    rounds: int = 5
    allocations: int = 400
    """Of FEW devices, in each round; a quarter as many of MANY."""
    streams: int = 20
    """In each round."""
    with_go: bool = True
    """Whether the Go plugin is measured beside."""
    beside: Checkout | None = None
    """Whose plugin is measured in the same rounds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One plugin in one round; times are seconds, memory is bytes.

    Args:
        start: from before fork() and exec() until Register was answered for every resource.
        start_cpu: of the plugin until then, and until the kubelet has every list.
        first_list: from Register to the list of EPC received whole.
        allocate: Allocate by number of device IDs.
        stream_cpu: of the plugin, for one more ListAndWatch and its list, on a connection that is there.
        reregister: from the kubelet's disconnecting until the next Register is answered.
        resident: at the end.
    """

    start: float
    start_cpu: float
    first_list: float
    allocate: dict[int, Latency]
    stream_cpu: float
    reregister: float
    resident: int


@dataclass(frozen=True, slots=True)
class PluginSummary:
    """Samples of one plugin on one size of node."""

    start: Spread
    start_cpu: Spread
    first_list: Spread
    allocate_p50: dict[int, Spread]
    allocate_p99: dict[int, Spread]
    stream_cpu: Spread
    reregister: Spread
    resident: Spread

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> PluginSummary:
        """Of at least one."""
        sizes = samples[0].allocate
        return cls(
            start=Spread.of([sample.start for sample in samples]),
            start_cpu=Spread.of([sample.start_cpu for sample in samples]),
            first_list=Spread.of([sample.first_list for sample in samples]),
            allocate_p50={size: Spread.of([sample.allocate[size].p50 for sample in samples]) for size in sizes},
            allocate_p99={size: Spread.of([sample.allocate[size].p99 for sample in samples]) for size in sizes},
            stream_cpu=Spread.of([sample.stream_cpu for sample in samples]),
            reregister=Spread.of([sample.reregister for sample in samples]),
            resident=Spread.of([sample.resident for sample in samples]),
        )


@dataclass(frozen=True, slots=True)
class NodeResult:
    """All plugins on one size of node."""

    mib: int
    rounds: int
    counts: dict[str, int]
    """Devices of each resource."""
    plugins: dict[str, PluginSummary]
    pairs: list[Pair]
    """Beside the other checkout; empty without one."""


@dataclass(frozen=True, slots=True)
class PluginResults:
    """What was measured, from the smallest node to the largest."""

    plan: PluginPlan
    machine: dict[str, object]
    load_average: tuple[float, float]
    """Before and after."""
    nodes: list[NodeResult]
    without_go: str
    """Why the Go plugin was not measured, or empty."""


def measure_plugins(plan: PluginPlan, directory: Path, *, say: Callable[[str], None]) -> PluginResults:
    """Measure all of it.

    Args:
        plan: how much.
        directory: an empty one with a short path, for sockets are in it.
        say: told what is done now.

    Raises:
        WrongAnswerError: a plugin listed or answered something else than it should.
        MissingError: a plugin did not register.
    """
    without_go, program = "" if plan.with_go else "left out by --without-go", None
    try:
        program = GoPlugin.find().build(say=say) if plan.with_go else None
    except UnavailableError as error:
        without_go = f"{error}: {error.why}"
    cores = Cores.choose()
    before = load_average()
    places = (directory / str(number) for number in itertools.count())
    nodes = []
    with on_core(cores.clients):
        for mib in (*plan.mib, plan.largest_mib) if plan.largest_mib else plan.mib:
            rounds = plan.rounds if mib in plan.mib else 1
            say(f"{rounds} rounds over device plugins on a node of {mib} MiB")
            commands = {CONFCOM: confcom_command(mib, Checkout.this())}
            if plan.beside is not None:
                commands[BESIDE] = confcom_command(mib, plan.beside)
            offers = {key: offer_of(command, next(places), core=cores.server) for key, command in commands.items()}
            if program is not None:
                offers[GO] = offers[CONFCOM]
                commands[GO] = go_command(program, offers[GO])
            samples: dict[str, list[Sample]] = {key: [] for key in commands}
            for number in range(rounds):
                for key in in_turn(list(commands), number):
                    sample = sample_of(commands[key], offers[key], next(places), plan=plan, core=cores.server)
                    samples[key].append(sample)
            plugins = {key: PluginSummary.of(of) for key, of in samples.items()}
            pairs = _pairs(mib, samples[CONFCOM], samples[BESIDE]) if BESIDE in samples else []
            nodes.append(NodeResult(mib, rounds, offers[CONFCOM].counts, plugins, pairs))
    return PluginResults(plan, describe_machine(cores), (before, load_average()), nodes, without_go)


def _pairs(mib: int, ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[Pair]:
    def pair(title: str, value: Callable[[Sample], float]) -> Pair:
        return Pair(f"{mib:,} MiB: {title}", "ms", *(milliseconds(map(value, samples)) for samples in (ours, theirs)))

    sizes = [size for size in ours[0].allocate if size in theirs[0].allocate]
    return [
        pair("exec() to registered", lambda sample: sample.start),
        pair("CPU of it", lambda sample: sample.start_cpu),
        pair("Register to first list received whole", lambda sample: sample.first_list),
        *(pair(f"Allocate of {size:,}, p50", lambda sample, size=size: sample.allocate[size].p50) for size in sizes),
        *(pair(f"Allocate of {size:,}, p99", lambda sample, size=size: sample.allocate[size].p99) for size in sizes),
        pair("stream lost to registered again", lambda sample: sample.reregister),
        pair("plugin's CPU for one more stream and its list", lambda sample: sample.stream_cpu),
        Pair(
            f"{mib:,} MiB: resident memory",
            "MB",
            *(megabytes(sample.resident for sample in samples) for samples in (ours, theirs)),
        ),
    ]


def sample_of(command: Command, offer: Offer, place: Path, *, plan: PluginPlan, core: int) -> Sample:
    """Start a plugin, take every measure of it, and end it.

    Raises:
        WrongAnswerError: a list or an answer is not what it should be.
        MissingError: it did not register.
    """
    with running(command, place, core=core) as plugin:
        registrations = plugin.kubelet.registered(offer.counts)
        registered_at, start_cpu = time.perf_counter(), SchedulerTimes.of(plugin.pid).running
        for name, registration in registrations.items():
            offer.check_list(registration.encoded_list, name)
        epc = registrations[EPC_RESOURCE]
        allocate = {FEW: _allocate(epc, offer, FEW, plan.allocations)}
        if offer.devices >= MANY:
            allocate[MANY] = _allocate(epc, offer, MANY, plan.allocations // 4)
        before = cpu_when_idle(plugin.pid)
        lists = [epc.open_stream() for _ in range(plan.streams)]
        stream_cpu = (cpu_when_idle(plugin.pid) - before) / plan.streams
        for encoded in set(lists):
            offer.check_list(encoded, EPC_RESOURCE)
        time.sleep(max(0.0, registered_at + STREAM_AGE_SECONDS - time.perf_counter()))
        reregister = plugin.kubelet.seconds_to_reregister(EPC_RESOURCE)
        return Sample(
            start=max(registration.answered for registration in registrations.values()) - plugin.started,
            start_cpu=start_cpu,
            first_list=epc.listed - epc.asked,
            allocate=allocate,
            stream_cpu=stream_cpu,
            reregister=reregister,
            resident=resident_bytes(plugin.pid),
        )


def _allocate(epc: Registration, offer: Offer, size: int, times: int) -> Latency:
    call = epc.allocate
    requests = [offer.request(size, turn) for turn in range(times)]
    seconds, answers = [], []
    for request in requests:
        began = time.perf_counter()
        answer = call(request)
        seconds.append(time.perf_counter() - began)
        answers.append(answer)
    for answer in answers:
        offer.check_answer(answer, size)
    return Latency.of(seconds)

"""The demo's six steps in their order, and a report for each step."""

import asyncio
import base64
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confcom.demo.container_runtime import SAMPLE_WORKLOAD, Image, choose_runtime, sample_image
from confcom.demo.guardian import MARK_VARIABLE
from confcom.demo.job_file import Job, example, read_job
from confcom.demo.node import Node, Phase, Pod
from confcom.demo.processes import READY_SECONDS, Processes, StepError, guarded
from confcom.errors import ConfcomError, ExitCode, as_data, printable
from confcom.kubernetes.names import REAL
from confcom.namespaces.modes import Mode, find_tools

EPC_MIB = 168

JOB, PLATFORM, QUOTE, TRUST = "job.yaml", "platform", "q.bin", "trust"
"""The example file's name, and names in the demo's folder: platform, quote, the relying party's files."""

CONTAINERS = {
    Mode.ROOT: "processes with a file system of their own",
    Mode.USER_NAMESPACE: "processes with a file system of their own, without root",
    Mode.NO_NAMESPACE: "plain processes, and CONFCOM_AESM_SOCKET tells our client where the socket is",
}

CHALLENGE_VARIABLE = "CONFCOM_CHALLENGE"
CHALLENGE_PLACEHOLDER = "0" * 64
"""The value in examples/job.yaml that the relying party replaces with its challenge."""
CHALLENGE_SIZE = 32
"""Number of bytes of a challenge: like a SHA-256 hash, it takes 32 of the 64 bytes of report data."""

QUOTE_PREFIX = "quote: "
SHOWN_OUTPUT = ("enclave memory:", "quoting ", "AESM socket:", "done:")
"""The prefixes of those output lines of the workload that are shown without --verbose."""

REPORT_DATA_OFFSET = 48 + 320
"""The offset of the report data in a quote, after the header (48 bytes) and 320 bytes of the report body."""
CHANGE_PROGRAM = (
    'import sys; q = bytearray(open(sys.argv[1], "rb").read()); '
    f'q[{REPORT_DATA_OFFSET}] ^= 1; open(sys.argv[2], "wb").write(q)'
)

VERDICTS = (ExitCode.OK, ExitCode.NOT_AUTHORISED, ExitCode.NOT_AUTHENTIC, ExitCode.UNUSABLE)
"""The exit codes with which `confcom verify` prints a verdict."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; a `detail` is shown only with --verbose."""

    text: str
    detail: bool


@dataclass(slots=True)
class StepReport:
    number: int
    title: str
    ok: bool = False
    seconds: float = 0.0
    lines: list[Line] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """Shell commands that a user can repeat while the demo runs."""
    data: dict[str, object] = field(default_factory=dict)
    error: Mapping[str, str | int] | None = None

    def say(self, text: str, *, detail: bool = False) -> None:
        self.lines.append(Line(text, detail))


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The report of all steps. `ok` is true only if every step ran and succeeded."""

    ok: bool
    mode: str
    folder: str
    steps: tuple[StepReport, ...]
    seconds: float


@dataclass(slots=True)
class Demo:
    """The state that steps share: processes, the node, files, and results of earlier steps."""

    processes: Processes
    node: Node
    challenge: str = ""
    """The relying party's challenge in hex."""
    pod: Pod = field(init=False)
    """The pod of examples/job.yaml."""

    def file(self, name: str) -> Path:
        return self.processes.folder / name

    def define(self, report: StepReport, name: str, value: str) -> None:
        """Define a shell variable, which replaces the long value in the following commands."""
        self.processes.variables[name] = value
        report.commands.append(f"{name}={value}")

    async def run(
        self, report: StepReport, *command: str, accept: Collection[int] = (0,)
    ) -> tuple[int, dict[str, Any]]:
        report.commands.append(self.processes.shown(*command))
        return await self.processes.run(*command, accept=accept)

    def epc_in_use(self) -> str:
        ledger = self.node.ledger
        return f"EPC: {ledger.allocated(REAL.epc)} of {ledger.capacity().get(REAL.epc, 0)} MiB in use"

    async def submit(self, job: Job) -> Pod:
        pod = self.node.submit(job)
        await self.until("start", pod, lambda: pod.phase is not Phase.PENDING or pod.message)
        return pod

    async def until(self, what: str, pod: Pod, holds: Callable[[], object]) -> None:
        await self.processes.until(
            f"{what} of Job {pod.job.name}", lambda: "" if holds() else f"its pod is {pod.phase} {pod.message}"
        )


@contextlib.asynccontextmanager
async def open_demo(
    mode: str,
    environ: Mapping[str, str],
    *,
    replacements: Mapping[str, tuple[str, ...]] | None = None,
    images: Mapping[str, Image] | None = None,
    ready_seconds: float = READY_SECONDS,
) -> AsyncIterator[Demo]:
    """Prepare a demo in a new folder; after the block, end the demo's processes and remove the folder."""
    inherited = {name: value for name, value in environ.items() if not name.startswith(("CONFCOM_", "SGX_"))}
    folder = Path(tempfile.mkdtemp(prefix="confcom-", dir="/tmp"))  # unix sockets below it need a short path
    processes = Processes(folder, inherited, replacements or {}, ready_seconds)
    async with guarded(processes):
        tools = find_tools(environ.get("PATH", os.defpath))
        runtime = await choose_runtime(mode, tools, {MARK_VARIABLE: str(folder)}, folder)
        node = Node(folder, runtime, images or {SAMPLE_WORKLOAD: sample_image(inherited)})
        try:
            yield Demo(processes, node)
        finally:
            await node.stop()


async def run(demo: Demo, *, begin: Callable[[StepReport], None], end: Callable[[StepReport], None]) -> DemoReport:
    """Run the steps in order, up to the first step that fails."""
    began = time.monotonic()
    reports: list[StepReport] = []
    for number, (title, step) in enumerate(STEPS.items(), start=1):
        report = StepReport(number, title)
        reports.append(report)
        begin(report)
        step_began = time.monotonic()
        try:
            await step(demo, report)
            report.ok = True
        except ConfcomError as error:
            try:
                demo.processes.require_alive()
                report.error = as_data(error)
            except StepError as cause:
                report.error = as_data(cause)
        report.seconds = round(time.monotonic() - step_began, 3)
        end(report)
        if not report.ok:
            break
    return DemoReport(
        ok=reports[-1].ok,
        mode=demo.node.runtime.mode,
        folder=str(demo.processes.folder),
        steps=tuple(reports),
        seconds=round(time.monotonic() - began, 3),
    )


def require_started(pod: Pod) -> None:
    if pod.error is not None:
        raise pod.error
    if pod.phase is Phase.PENDING:
        raise StepError(f"Job {pod.job.name} stays Pending", error_code="job-pending", why=pod.message)


def require_success(pod: Pod) -> None:
    require_started(pod)
    if pod.phase is not Phase.SUCCEEDED:
        why = f"exit code {pod.exit_code}: {' '.join(pod.output().splitlines()[-1:])}"
        raise StepError(f"Job {pod.job.name} has failed", error_code="job-failed", why=why)


async def simulated_platform(demo: Demo, report: StepReport) -> None:
    """Step 1: create a simulated platform with its own root."""
    demo.define(report, "DEMO", str(demo.processes.folder))
    _, created = await demo.run(report, "confcom", "simulation", "create", str(demo.file(PLATFORM)))
    report.say(f"{EPC_MIB} MiB of enclave memory (EPC), which a node offers as a resource")
    report.say(f"its own root of trust, SHA-256 {created['root_sha256']}")
    report.say("SIMULATED: it proves nothing about hardware, and each of its quotes says so")
    report.data.update(epc_mib=EPC_MIB, root_sha256=created["root_sha256"])


async def daemons(demo: Demo, report: StepReport) -> None:
    """Step 2: start the node, then the device plugin and the quote helper as separate processes."""
    processes, node = demo.processes, demo.node
    await node.start()
    plugin = ["device-plugin", "--simulated", "--simulated-epc-mib", str(EPC_MIB), "--host-root", str(node.root)]
    plugin += ["--device-plugin-dir", str(node.device_plugin_dir)]
    helper = ["quote-helper", "--simulated", "--state-dir", str(demo.file(PLATFORM)), "--socket", str(node.aesm_socket)]
    for command in (plugin, helper):
        command += ["--probe-address", f"unix:{demo.file(command[0])}.probe"]
        await processes.start(*command)
        report.say(f"started: {processes.shown('confcom', *command)}", detail=True)
    await processes.until("registration of the device plugin", lambda: _epc_missing(node))
    await processes.until("socket of the quote helper", lambda: "" if node.aesm_socket.is_socket() else "it is missing")
    allocatable = node.ledger.allocatable()
    pids = {name: process.pid for name, process in processes.daemons.items()}
    report.say(f"device plugin (process {pids['device-plugin']}): tells the kubelet how much EPC the node has")
    report.say(f"quote helper (process {pids['quote-helper']}): makes the quotes for all containers of the node")
    report.say(f"EPC: {allocatable[REAL.epc]} MiB for containers, {allocatable[REAL.helper]} for the helper")
    report.say(f"containers: {CONTAINERS[node.runtime.mode]} (mode {node.runtime.mode})")
    if node.runtime.reason:
        report.say(f"  {node.runtime.reason}", detail=node.runtime.mode is not Mode.NO_NAMESPACE)
    report.commands.append(f"tail -n 3 {processes.shown(str(demo.file('logs')))}/*.log")
    report.data.update(processes=pids, mode=node.runtime.mode, allocatable=allocatable)


def _epc_missing(node: Node) -> str:
    """Return "" once the node offers EPC, else the node's offer. StepError if the EPC's size is wrong."""
    allocatable = node.ledger.allocatable()
    offered = [allocatable.get(name, 0) for name in (REAL.epc, REAL.helper)]
    if not all(offered):
        return f"the node offers {allocatable}"
    if sum(offered) != EPC_MIB:
        raise StepError(f"the node offers {sum(offered)} of {EPC_MIB} MiB of EPC", error_code="epc-differs")
    return ""


async def submit_job(demo: Demo, report: StepReport) -> None:
    """Step 3: submit the Job of examples/job.yaml with the relying party's challenge; EPC is allocated."""
    path = example(JOB)
    job = read_job(path)
    given = job.env.get(CHALLENGE_VARIABLE, "")
    demo.challenge = os.urandom(CHALLENGE_SIZE).hex() if given in {"", CHALLENGE_PLACEHOLDER} else given
    demo.define(report, "CHALLENGE", demo.challenge)
    pod = demo.pod = await demo.submit(replace(job, env={**job.env, CHALLENGE_VARIABLE: demo.challenge}))
    require_started(pod)
    report.say(f"Job {job.name} (examples/{path.name}) asks for {job.limits.get(REAL.epc, 0)} MiB of EPC")
    report.say(demo.epc_in_use())
    report.say(f"devices and mounts: {', '.join(bind.container_path for bind in pod.binds)}")
    report.say("challenge: its quote must contain it, so that no old quote passes for a new one")
    report.commands.append(demo.processes.shown("cat", str(path)))
    report.data.update(challenge=demo.challenge, allocated_mib=demo.node.ledger.allocated(REAL.epc))


async def quote_out_of_process(demo: Demo, report: StepReport) -> None:
    """Step 4: the container makes a report, gets a quote from the node's quote helper, and exits 0."""
    pod = demo.pod
    await demo.until("end", pod, lambda: pod.ended)
    require_success(pod)
    encoded = ""
    for line in pod.output().splitlines():
        if line.startswith(QUOTE_PREFIX):
            encoded = line.removeprefix(QUOTE_PREFIX)
        else:
            report.say(f"| {printable(line)}", detail=not line.startswith(SHOWN_OUTPUT))
    quote = b""
    with contextlib.suppress(ValueError):
        quote = base64.b64decode(encoded, validate=True)
    if not quote:
        raise StepError("the container printed no quote", error_code="no-quote", why=pod.output()[-300:])
    demo.file(QUOTE).write_bytes(quote)
    report.say("the quote left the container through its log", detail=True)
    log, file = demo.processes.shown(str(pod.log)), demo.processes.shown(str(demo.file(QUOTE)))
    report.commands += [f"sed -n 's/^{QUOTE_PREFIX}//p' {log} | base64 -d > {file}", f"confcom inspect {file}"]
    report.data.update(exit_code=pod.exit_code, quote_bytes=len(quote), output=pod.output().splitlines())


async def verification(demo: Demo, report: StepReport) -> None:
    """Step 5: a relying party verifies the quote with public files; four variations are refused."""
    platform, trust = demo.file(PLATFORM), demo.file(TRUST)
    quote, changed = demo.file(QUOTE), demo.file("changed.bin")
    # The workload's builder publishes the MRENCLAVE; a relying party does not ask the workload for it.
    results = await asyncio.gather(
        demo.run(report, "confcom", "simulation", "export", "--state-dir", str(platform), str(trust)),
        demo.run(report, "python", "-m", "confcom.sample_workload", "--print-identity"),
    )
    mrenclave = str(results[1][1]["mr_enclave"])
    demo.define(report, "MRENCLAVE", mrenclave)
    content = bytearray(quote.read_bytes())
    content[REPORT_DATA_OFFSET] ^= 1
    changed.write_bytes(content)
    report.commands.append(demo.processes.shown("python", "-c", CHANGE_PROGRAM, str(quote), str(changed)))

    async def verify(
        title: str,
        expected: ExitCode,
        *policy: str,
        file: Path = quote,
        root: str = str(trust / "root.pem"),
        challenge: str = demo.challenge,
    ) -> tuple[str, ExitCode, dict[str, Any]]:
        command = ["confcom", "verify", str(file), "--root", root, "--collateral", str(trust / "collateral")]
        command += ["--mrenclave", mrenclave, "--report-data", challenge, *policy]
        code, verdict = await demo.run(report, *command, accept=VERDICTS)
        if code != expected or "kind" not in verdict:
            failed = (check for check in verdict.get("checks", ()) if check.get("status") == "failed")
            raise StepError(
                f"{title}: the verdict is {verdict.get('kind')} ({code}) where exit code {expected} is right",
                error_code="verdict-differs",
                why="; ".join(f"{check['name']}: {check['why']}" for check in failed),
            )
        return title, expected, verdict

    simulated, other = "--allow-simulated", os.urandom(CHALLENGE_SIZE).hex()
    verdicts = await asyncio.gather(
        verify("the quote as it is", ExitCode.OK, simulated),
        verify("simulated not allowed", ExitCode.NOT_AUTHORISED),
        verify("one bit changed", ExitCode.NOT_AUTHENTIC, simulated, file=changed),
        verify("under Intel's root", ExitCode.NOT_AUTHENTIC, simulated, root="intel"),
        verify("for another challenge (replay)", ExitCode.NOT_AUTHORISED, simulated, challenge=other),
    )
    platform_kind = verdicts[0][2].get("platform")
    if platform_kind != "simulated":
        raise StepError(
            f"the quote was taken for {platform_kind}: simulated must never pass for genuine",
            error_code="simulated-taken-for-genuine",
        )
    report.say(f"{'what is verified':<32}{'verdict':<26}exit code")
    for title, code, verdict in verdicts:
        report.say(f"{title:<32}{verdict['kind']:<26}{code}")
    report.data.update(verified=verdicts[0][2], verdicts={title: verdict["kind"] for title, _, verdict in verdicts})


async def pending_then_runs(demo: Demo, report: StepReport) -> None:
    """Step 6: a Job that does not fit stays Pending, and runs when EPC is released."""
    holding = await demo.submit(read_job(example("job-holding.yaml")))
    require_started(holding)

    # A container's first process ignores SIGTERM until it installs a handler, as on Kubernetes.
    await demo.until("quote", holding, lambda: f"\n{QUOTE_PREFIX}" in holding.output())
    report.say(f"{f'Job {holding.job.name} runs':<32}{demo.epc_in_use()}")

    large = await demo.submit(read_job(example("job-large.yaml")))
    if large.phase is not Phase.PENDING:
        raise StepError(f"Job {large.job.name} does not wait although it does not fit", error_code="job-not-pending")
    asks = f"Job {large.job.name} asks for {large.job.limits.get(REAL.epc, 0)} MiB"
    report.say(f"{asks:<32}Pending: {large.message.rpartition(': 1 ')[2].rstrip('.')}")
    report.data.update(pending_reason=large.message)

    await demo.node.delete(holding)
    report.say(f"Job {holding.job.name} is deleted")
    await demo.until("start", large, lambda: large.phase is not Phase.PENDING)
    report.say(f"{f'Job {large.job.name} runs':<32}{demo.epc_in_use()}")
    await demo.until("end", large, lambda: large.ended)
    require_success(large)
    left = demo.node.ledger.allocated(REAL.epc)
    if left:
        raise StepError(f"{left} MiB of EPC are in use although every pod has ended", error_code="epc-differs")
    report.say(f"{f'Job {large.job.name} has succeeded':<32}{demo.epc_in_use()}")
    report.commands.append(f"tail -n 1 {demo.processes.shown(str(large.log))}")


Step = Callable[[Demo, StepReport], Awaitable[None]]
STEPS: Mapping[str, Step] = {
    "A simulated SGX platform": simulated_platform,
    "A node with its device plugin and its quote helper": daemons,
    "A Job asks for enclave memory": submit_job,
    "Its container gets a quote: signed evidence of what runs in its enclave": quote_out_of_process,
    "A relying party, who wants to trust the enclave, verifies the quote": verification,
    "Enclave memory is finite: a Job that does not fit waits": pending_then_runs,
}

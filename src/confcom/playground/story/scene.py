"""What the steps share: the folder's layout, the node's client, and what earlier steps found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confcom.playground.client import NodeClient
from confcom.playground.layout import Layout
from confcom.playground.story.commands import CommandResult, Commands
from confcom.playground.story.stage import ProcessGroup
from confcom.sgx.epc import AZURE_DCSV2_EPC_MIB

EPC_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
HELPER_EPC_RESOURCE = "confcom.internal/quote_helper_epc_mem_in_MiB"
"""As the plugin's documentation names them: the story knows the daemons from outside only."""
VM_SIZE, EPC_MIB = max(AZURE_DCSV2_EPC_MIB.items(), key=lambda size: size[1])
"""The largest size of Azure's DCsv2 series, and its EPC."""

QUOTE_PREFIX = "quote: "
"""The sample workload prints its quote on a line of its own, so that it can leave a pod through its log."""

JOB_SECONDS = 20.0
"""The sample workload takes half a second; a loaded machine may need several."""


@dataclass(slots=True)
class Notes:
    """What one step tells: lines for people, commands to repeat it, and the same as data."""

    happened: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Add a line of what happened."""
        self.happened.append(line)

    def define(self, commands: Commands, name: str, value: str) -> None:
        """Give a long value a shell variable's name, in the commands that follow."""
        commands.variables[name] = value
        self.commands.append(f"{name}={value}")

    def add_command(self, command: str) -> None:
        """Add a command that repeats the step."""
        self.commands.append(command)


@dataclass(slots=True)
class DemoContext:
    """One demo on its way through the steps.

    Attributes:
        processes: the demo's processes and their folder.
        node: the playground's control API.
        mode_flag: the playground's mode, as its `--mode` takes it.
        random: random bytes, for the relying party's challenge.
        manifests: where the example manifests are.
        job_seconds: how long to wait for anything that becomes of a Job.
    """

    processes: ProcessGroup
    node: NodeClient
    mode_flag: str
    random: Callable[[int], bytes]
    manifests: Path
    job_seconds: float = JOB_SECONDS
    fingerprint: str = ""
    challenge: bytes = b""

    @property
    def folder(self) -> Path:
        """Everything of this demo is below it."""
        return self.processes.folder

    @property
    def commands(self) -> Commands:
        """The public commands."""
        return self.processes.commands

    @property
    def layout(self) -> Layout:
        """Where things are below the folder."""
        return Layout(self.folder)

    @property
    def platform(self) -> Path:
        """The simulated platform's state."""
        return self.layout.platform

    @property
    def trust(self) -> Path:
        """What the relying party was given: root and collateral."""
        return self.folder / "trust"

    @property
    def quote(self) -> Path:
        """The quote that left the container."""
        return self.folder / "q.bin"

    def run(self, notes: Notes, name: str, *arguments: str, accept: tuple[int, ...] = (0,)) -> CommandResult:
        """Run a command and note it."""
        result = self.commands.run(name, *arguments, accept=accept)
        notes.add_command(result.shown)
        return result

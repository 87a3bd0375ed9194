"""The context of the demo's steps: the folder's layout, the node's client, and the results of earlier steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from confcom.errors import UnavailableError
from confcom.playground.api.client import NodeClient
from confcom.playground.demo.commands import CommandResult, Commands
from confcom.playground.demo.processes import ProcessGroup
from confcom.playground.layout import Layout
from confcom.sgx.epc_from_cpuid import AZURE_DCSV2_EPC_MIB

EPC_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
HELPER_EPC_RESOURCE = "confcom.internal/quote_helper_epc_mem_in_MiB"
"""The names in the device plugin's documentation: the demo uses the daemons only through public interfaces."""
VM_SIZE, EPC_MIB = max(AZURE_DCSV2_EPC_MIB.items(), key=lambda size: size[1])
"""The largest size of Azure's DCsv2 series, and its EPC in MiB."""

QUOTE_PREFIX = "quote: "
"""The prefix of the line with the quote in the sample workload's output, and so in the pod's log."""

JOB_SECONDS = 20.0
"""Deadline for what a Job does: the sample workload takes half a second; a loaded machine may need several."""


def examples_folder() -> Path:
    """Return the directory of job.yaml and the other examples."""
    folder = Path(str(resources.files("confcom.playground") / "examples"))
    if not (folder / "job.yaml").is_file():
        raise UnavailableError(
            "the example manifests are missing",
            error_code="examples-missing",
            why=f"there is no {folder / 'job.yaml'}",
            remedy="install confcom from a wheel or a complete checkout",
        )
    return folder


@dataclass(slots=True)
class Notes:
    """The output of one step: lines of text, the commands that repeat it, and its data."""

    happened: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Add a line of text."""
        self.happened.append(line)

    def define(self, commands: Commands, name: str, value: str) -> None:
        """Define a shell variable that replaces a long value in the following commands."""
        commands.variables[name] = value
        self.commands.append(f"{name}={value}")

    def add_command(self, command: str) -> None:
        """Add a command that repeats the step."""
        self.commands.append(command)


@dataclass(slots=True)
class DemoContext:
    """The context of one demo.

    Attributes:
        processes: the demo's processes and their folder.
        node: the playground's control API.
        mode_flag: the playground's mode, as a value of its `--mode`.
        random: returns random bytes, for the relying party's challenge.
        job_seconds: how long to wait for a Job's phase or event.
    """

    processes: ProcessGroup
    node: NodeClient
    mode_flag: str
    random: Callable[[int], bytes]
    job_seconds: float = JOB_SECONDS
    challenge: bytes = b""

    @property
    def folder(self) -> Path:
        """The folder of this demo's files."""
        return self.processes.folder

    @property
    def commands(self) -> Commands:
        """The public commands."""
        return self.processes.commands

    @property
    def layout(self) -> Layout:
        """The paths of the node in the folder."""
        return Layout(self.folder)

    @property
    def trust(self) -> Path:
        """The relying party's files: root and collateral."""
        return self.folder / "trust"

    @property
    def quote(self) -> Path:
        """The file of the container's quote."""
        return self.folder / "q.bin"

    def run(self, notes: Notes, name: str, *arguments: str) -> CommandResult:
        """Run a command, and add it to the notes."""
        result = self.commands.run(name, *arguments)
        notes.add_command(result.shown)
        return result

"""The commands `confcom playground ...`: one node without Kubernetes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from confcom.cli.output_option import JSON, TEXT, output_option
from confcom.cli.path_type import NamedPath
from confcom.errors import printable

if TYPE_CHECKING:
    from confcom.playground.api.client import NodeClient
    from confcom.playground.api.views import NodeState

directory_option = click.option(
    "--dir",
    "directory",
    type=NamedPath(file_okay=False),
    envvar="CONFCOM_PLAYGROUND_DIR",
    show_envvar=True,
    required=True,
    help="The node's directory.",
)


def _complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del ctx, param
    return [kind for kind in ("job", "pod") if kind.startswith(incomplete)]


@click.group()
def playground() -> None:
    """Run Job and Pod manifests on one node without Kubernetes.

    \b
    To start a whole node by hand, open four terminals, and run this first in each:
      export CONFCOM_PLAYGROUND_DIR=/tmp/node

    \b
    Then run one of these in each:
      confcom playground node
      confcom device-plugin --simulated --simulated-epc-mib 168 \\
          --device-plugin-dir $CONFCOM_PLAYGROUND_DIR/node/var/lib/kubelet/device-plugins
      confcom quote-helper --simulated --state-dir $CONFCOM_PLAYGROUND_DIR/platform \\
          --socket $CONFCOM_PLAYGROUND_DIR/node/var/run/aesmd/aesm.socket
      confcom playground apply examples/job.yaml; confcom playground get
    """


@playground.command()
@directory_option
@click.option(
    "--mode",
    type=click.Choice(["auto", "root", "user-namespace", "no-namespace"]),
    default="auto",
    help="How containers are isolated; auto uses the first mode that works on this machine.",
)
@click.option(
    "--kubelet",
    type=click.Choice(["1.36", "1.37"]),
    default="1.36",
    show_default=True,
    help="The kubelet's rules for device plugins: those of Kubernetes up to 1.36, or from 1.37 on.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="NAME=ARGV",
    help="Add an image: its name and its program; may be repeated.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    help="The format of the logs; auto is text on a terminal, otherwise json.",
)
def node(*, directory: Path, mode: str, kubelet: str, images: Sequence[str], log_level: str, log_format: str) -> None:
    """Run a node in the foreground until Ctrl-C. It prints one line when it is ready; logs go to stderr.

    \b
    Example:
      confcom playground node --dir /tmp/node --image 'my/app:1=python3 /home/me/app.py'
    """
    import sys

    from confcom.daemon.logs import LogFormat, configure_logging
    from confcom.playground.kubelet.plugin_registry import KubeletRules
    from confcom.playground.node_main import run_node
    from confcom.playground.runtime.images import image_table
    from confcom.playground.runtime.modes import ChosenMode

    def announce(chosen: ChosenMode) -> None:
        ready = f"node ready in {directory}, mode {chosen.mode} ({chosen.reason}): {chosen.mode.explanation}"
        click.echo(printable(ready))

    configure_logging(level=log_level, log_format=LogFormat(log_format), stream=sys.stderr)
    rules = KubeletRules(kubelet)
    click.get_current_context().exit(run_node(directory, mode, image_table(images), rules=rules, announce=announce))


@playground.command()
@directory_option
@output_option
@click.argument("files", nargs=-1, required=True, type=click.File(encoding="utf-8"))
def apply(directory: Path, output: str, files: Sequence[TextIO]) -> None:
    """Create the objects of manifest files (- is standard input).

    \b
    Example:
      confcom playground apply --dir /tmp/node examples/job.yaml
    """
    objects: list[str] = []
    warnings: list[str] = []
    with _client(directory) as client:
        for file in files:
            result = client.apply(_read_manifest(file))
            objects += result.objects
            warnings += result.warnings
            if output == TEXT:
                for warning in result.warnings:
                    click.echo(printable(f"Warning: {warning}"), err=True)
                for created in result.objects:
                    click.echo(f"{created} created")
    if output == JSON:
        click.echo(json.dumps({"objects": objects, "warnings": warnings}, indent=2))


@playground.command()
@directory_option
@output_option
def get(directory: Path, output: str) -> None:
    """Show the node's resources, its Jobs and its pods.

    \b
    Examples:
      confcom playground get --dir /tmp/node
      confcom playground get --dir /tmp/node --output json
    """
    with _client(directory) as client:
        state = client.state()
    if output == JSON:
        click.echo(json.dumps(state.to_json(), indent=2))
    else:
        _print_state(state)


@playground.command()
@directory_option
@click.option("-c", "--container", help="The container, if the pod has several.")
@click.argument("pod")
def logs(directory: Path, container: str | None, pod: str) -> None:
    """Print a pod's log (the last mebibyte).

    \b
    Examples:
      confcom playground logs --dir /tmp/node sgx-test-x2f5k
      confcom playground logs --dir /tmp/node -c main my-pod
    """
    with _client(directory) as client:
        click.echo(client.logs(pod, container=container), nl=False)


@playground.command()
@directory_option
@output_option
@click.option("-f", "--file", "file", type=click.File(encoding="utf-8"), help="Delete the objects of this manifest.")
@click.option("--grace-period", type=click.FloatRange(min=0), help="Seconds between SIGTERM and SIGKILL.")
@click.argument("kind", required=False, shell_complete=_complete_kind)
@click.argument("name", required=False)
def delete(
    *,
    directory: Path,
    output: str,
    file: TextIO | None,
    grace_period: float | None,
    kind: str | None,
    name: str | None,
) -> None:
    """Delete a Job or a Pod, and wait until its processes have ended.

    \b
    Examples:
      confcom playground delete --dir /tmp/node job sgx-test
      confcom playground delete --dir /tmp/node -f examples/job.yaml
    """
    from confcom.playground.manifests.manifest_files import parse_manifests

    if (file is None) == (kind is None or name is None):
        raise click.UsageError("give either KIND NAME or -f FILE")
    targets = [(kind or "", name or "")]
    if file is not None:
        manifests, _ = parse_manifests(_read_manifest(file))
        targets = [(each.kind.lower(), each.name) for each in manifests]
    with _client(directory) as client:
        for each_kind, each_name in targets:
            waiting = functools.partial(_print_waiting, each_kind, each_name)
            client.delete(each_kind, each_name, grace_period=grace_period, waiting=waiting)
            if output == TEXT:
                click.echo(printable(f'{each_kind} "{each_name}" deleted'))
    if output == JSON:
        click.echo(json.dumps({"deleted": [f"{kind}/{name}" for kind, name in targets]}, indent=2))


@playground.command()
@directory_option
@output_option
def images(directory: Path, output: str) -> None:
    """List the images that the node has, and the program of each.

    \b
    Example:
      confcom playground images --dir /tmp/node
    """
    import shlex

    with _client(directory) as client:
        table = client.images()
    if output == JSON:
        click.echo(json.dumps(table, indent=2))
    else:
        _table(("IMAGE", "RUNS"), [(name, shlex.join(argv)) for name, argv in table.items()])


def _print_waiting(kind: str, name: str, seconds: float) -> None:
    what = printable(f'{kind} "{name}"')
    click.echo(
        f"Waiting for {what} to end, {seconds:g} s so far: its containers were sent SIGTERM, and are killed when their "
        "grace period is over (--grace-period sets it)",
        err=True,
    )


def _client(directory: Path) -> NodeClient:
    from confcom.playground.api.client import NodeClient

    return NodeClient(directory)


def _read_manifest(file: TextIO) -> str:
    from confcom.playground.api.errors import ManifestError
    from confcom.playground.manifests.documents import MAX_MANIFEST_BYTES

    try:
        return file.read(MAX_MANIFEST_BYTES + 1)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{file.name} is not a text file", error_code="not-a-text-file", why=str(error)) from None
    except OSError as error:
        raise ManifestError(
            f"{file.name} cannot be read", error_code="file-not-readable", why=error.strerror or str(error)
        ) from None


def _print_state(state: NodeState) -> None:
    node = state.node
    click.echo(f"node {node.name}, mode {node.mode} ({node.mode_reason})\n")
    resources = [
        (name, str(count), str(node.allocatable.get(name, 0)), str(node.allocated.get(name, 0)))
        for name, count in sorted(node.capacity.items())
    ]
    holdings = [(line.pod, line.container, str(line.count), line.resource) for line in node.ledger]
    jobs = [
        (job.name, str(job.status), str(job.succeeded), str(job.failed), job.message or job.reason)
        for job in state.jobs
    ]
    pods = [
        (
            pod.name,
            "Terminating" if pod.deleting else str(pod.phase),
            "" if pod.exit_code is None else str(pod.exit_code),
            ": ".join(part for part in (pod.reason, pod.message) if part),
        )
        for pod in state.pods
    ]
    _table(("RESOURCE", "CAPACITY", "ALLOCATABLE", "ALLOCATED"), resources)
    _section(("POD", "CONTAINER", "HOLDS", "OF"), holdings)
    _section(("JOB", "STATUS", "SUCCEEDED", "FAILED", "WHY"), jobs)
    _section(("POD", "PHASE", "EXIT", "WHY"), pods)


def _section(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo()
        _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell; the last column is not padded, and nothing is cut."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header) - 1)]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo(printable("  ".join([*cells, row[-1]]).rstrip()))

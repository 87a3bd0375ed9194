"""The command `confcom disable`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from confcom.cli.add_on_options import add_on, cluster_options, interrupted_option, show_result
from confcom.cli.interruption import reports_interruption
from confcom.errors import printable

if TYPE_CHECKING:
    from confcom.addon.workloads.workloads import RunningWorkload

_SHOWN = 10
"""The most workloads that are named; nobody reads a list of hundreds."""


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask, also if workloads use the add-on.")
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait until the kubelets have dropped the resources, and remove them from the nodes.  [default: wait]",
)
@interrupted_option
@cluster_options
@reports_interruption
def disable(*, yes: bool, wait: bool, interrupted: bool, namespace: str, context: str, output: str) -> None:
    """Disable the add-on, and remove everything that it installed except the simulated root.

    The command removes the policies first, then the daemons. Kubelets keep the resources for five more minutes; then
    the command removes the resources' names from the nodes. It keeps the Secret with the simulated root, so that the
    add-on is the same platform to relying parties when it is enabled again. If workloads use the add-on, the command
    prints what will happen to them, and asks for confirmation.

    \b
    Examples:
      confcom disable
      confcom disable --no-wait         keep the names on the nodes; a later `confcom disable` removes them
      confcom disable --yes --output json

    \b
    Exit codes:
      1    helm failed
      7    not confirmed, a permission is missing, or another change is running; nothing was changed
      8    something is left that can only be removed later
      6 and 130 as for enable
    """
    from confcom.addon.operations.disable import disable_add_on

    addon = add_on(namespace, context)

    def consent(workloads: Sequence[RunningWorkload]) -> bool:
        for line in consequences(workloads):
            addon.reporter.say(line)
        return yes or (sys.stdin.isatty() and click.confirm("Disable it all the same?", err=True))

    done = disable_add_on(addon, consent=consent, wait=wait, interrupted=interrupted)
    lines = ["The add-on is disabled."]
    lines += [f"Kept: {one}" for one in done.kept]
    for node, names in done.leftovers:
        lines.append(f"Left on the node {node}, at 0 once its kubelet has forgotten them: {', '.join(names)}")
    if done.leftovers:
        lines.append("`confcom disable` in five minutes, or later, removes these names.")
    show_result(done.to_json(), "\n".join(printable(line) for line in lines), output)


def consequences(workloads: Sequence[RunningWorkload]) -> list[str]:
    """Return the lines that tell people, before they agree, what happens to their workloads."""
    from confcom.addon.workloads.workloads import in_use

    lines = [f"{in_use(workloads)}:"]
    for one in workloads[:_SHOWN]:
        where = f"on {one.node}" if one.node else "not scheduled yet"
        owner = f", of {one.owner}" if one.owner else ""
        lines.append(f"  {one.namespace}/{one.name} {where}{owner}")
    if len(workloads) > _SHOWN:
        lines.append(f"  ... and {len(workloads) - _SHOWN} more")
    return [
        *lines,
        "Those that run go on running, with the EPC and the devices that they have, but get no quote out of process.",
        "No other Pod that asks for EPC will start, nor will these once they end: they stay Pending.",
    ]

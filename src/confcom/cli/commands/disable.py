"""The command `confcom disable`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from confcom.cli.add_on_options import cluster_options, interrupted_by_signals, opened
from confcom.cli.output_option import show_result
from confcom.errors import printable

if TYPE_CHECKING:
    from confcom.addon.tenants import TenantPod
    from confcom.kubernetes.kubectl_flags import Login

_SHOWN = 10
"""Maximum number of Pods that the question for confirmation names."""


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask, also if Pods use the add-on.")
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait until the kubelets have dropped the resources, and remove them from the nodes.  [default: wait]",
)
@cluster_options
@interrupted_by_signals
def disable(*, yes: bool, wait: bool, namespace: str, login: Login, output: str) -> None:
    """Disable the add-on, and remove everything that it installed except the simulated root.

    The command removes the policies first, then the daemons. Kubelets keep the resources for five more minutes; then
    the command removes the resources' names from the nodes. It keeps the Secret with the simulated root, so that the
    add-on is the same platform to relying parties when it is enabled again. If Pods use the add-on, the command prints
    what will happen to them, and asks for confirmation. After an interruption, the same command removes the rest. If
    helm's record or the namespace is missing, the command finds the add-on's objects by their labels.

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
    from confcom.addon.disable import disable

    with opened(login, namespace) as add_on:

        def consent(pods: Sequence[TenantPod]) -> bool:
            for line in consequences(pods):
                add_on.reporter.say(line)
            return yes or (sys.stdin.isatty() and click.confirm("Disable it all the same?", err=True))

        done = disable(add_on, consent=consent, wait=wait)
    lines = ["The add-on is disabled.", *(f"Kept: {one}" for one in done.kept)]
    for node, names in done.leftovers:
        lines.append(f"Left in {node}'s status, at 0 once its kubelet has forgotten them: {', '.join(names)}")
    if done.leftovers:
        lines.append("Run `confcom disable` again in five minutes, or later, to remove these names.")
    show_result({"cluster": add_on.cluster.to_json(), **done.to_json()}, map(printable, lines), output)


def consequences(pods: Sequence[TenantPod]) -> Iterator[str]:
    """Yield lines for users to read before they confirm: what will happen to Pods that use the add-on."""
    yield "1 Pod uses the add-on:" if len(pods) == 1 else f"{len(pods)} Pods use the add-on:"
    for one in pods[:_SHOWN]:
        where = f"on {one.node}" if one.node else "not scheduled yet"
        owner = f", of {one.kind} {one.owner}" if one.kind != "Pod" else ""
        yield f"  {one.namespace}/{one.name} {where}{owner}"
    if len(pods) > _SHOWN:
        yield f"  ... and {len(pods) - _SHOWN} more"
    yield "Pods that run keep their EPC and their devices, but get no quote out of process."
    yield "New Pods that request EPC stay Pending, also those that replace these Pods."

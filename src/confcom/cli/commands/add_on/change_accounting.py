"""The command `confcom change-accounting`."""

from __future__ import annotations

from pathlib import Path

import click

from confcom.cli.add_on_options import (
    add_on,
    chart_of,
    chart_option,
    cluster_options,
    dry_run_option,
    show_result,
    start_note,
    waiting_options,
)
from confcom.cli.interruption import reports_interruption

SETTINGS = ("auto", "devices", "capacity")


@click.command("change-accounting")
@click.argument("setting", type=click.Choice(SETTINGS))
@dry_run_option
@chart_option
@waiting_options
@cluster_options
@reports_interruption
def change_accounting(
    *,
    setting: str,
    chart: Path | None,
    dry_run: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    context: str,
    output: str,
) -> None:
    """Change how EPC is counted on nodes: as devices of the kubelet, or as the node's capacity.

    Devices suit small amounts: a kubelet of Kubernetes 1.36 stalls after its restart with more than 2,048. Capacity
    has no such limit. With auto, each device plugin chooses when its kubelet knows no EPC yet, and otherwise keeps what
    there is; so a node that has devices is changed by naming capacity.

    While Pods with EPC run on nodes that would change, the command refuses and names them: the kubelet would go on
    counting their EPC, and refuse new Pods. Drain these nodes first, and keep them cordoned.

    Otherwise it sets the chart's value devicePlugin.accounting, updates the device plugins node by node, and waits
    until each node's status has the new amount. Where a kubelet still remembers Pods that have ended, the node's quote
    helper and then its device plugin are replaced, which makes it forget them. From devices to capacity it takes more
    than five minutes, since kubelets keep devices for so long; a shorter --timeout has no effect.

    \b
    Examples:
      confcom change-accounting capacity --dry-run
      confcom change-accounting capacity
      confcom change-accounting auto -o json | jq .accounting

    \b
    Exit codes:
      1    helm failed
      7    Pods with EPC run on nodes that would change, capacity is not supported, a check failed, or another change is
           running; nothing was changed
      8    a node has not changed
      2, 6 and 130 as for enable
    """
    from confcom.addon.cluster.helm import Values
    from confcom.addon.cluster.preflight_reader import InstallRequest
    from confcom.addon.operations.change_accounting import VALUE
    from confcom.addon.operations.change_accounting import change_accounting as change
    from confcom.kubernetes.epc_accounting import AccountingSetting

    request = InstallRequest(chart_of(chart), Values(settings=(f"{VALUE}={setting}",)), allow_no_nodes=True)
    addon = add_on(namespace, context)
    done = change(addon, AccountingSetting(setting), request, dry_run=dry_run, wait=wait, deadline=timeout)
    if not dry_run:
        note = "" if wait else start_note(wait=wait)
        text = f"The setting is {setting} (revision {done.changed.revision}).{note}"
        show_result(done.to_json(), "\n".join([text, *(f"{one.node}: {one.text}" for one in done.nodes)]), output)
    elif output == "json":
        show_result(done.to_json(), "", output)

"""The command `confcom rollback`."""

import click

from confcom.cli.add_on_options import cluster_options, interrupted_by_signals, opened, show_change, waiting_options
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@waiting_options
@cluster_options
@interrupted_by_signals
def rollback(*, revision: int | None, wait: bool, timeout: int, namespace: str, login: Login, output: str) -> None:
    """Undo the last update: restore the previous revision of the add-on.

    A second rollback undoes the update before the last update. To restore another revision, give its number in
    `helm history` as REVISION.

    The command refuses to start while another confcom changes the add-on, and for a minute after a plain helm has
    begun a change and not ended it. The command also undoes a change whose process was killed.

    \b
    Examples:
      confcom rollback
      confcom rollback 3

    \b
    Exit codes:
      1    helm failed
      7    there is no revision to restore, a check failed, or another change is running; nothing was changed
      8    a node is not ready
      6 and 130 as for enable
    """
    from confcom.addon.rollback import roll_back

    with opened(login, namespace) as add_on:
        done = roll_back(add_on, revision, wait=wait, timeout=timeout)
    show_change(add_on.cluster, done, "Rolled back", output, wait=wait)

"""The command `confcom rollback`."""

from __future__ import annotations

import click

from confcom.cli.add_on_options import (
    add_on,
    cluster_options,
    interrupted_option,
    show_result,
    start_note,
    waiting_options,
)
from confcom.cli.interruption import reports_interruption


@click.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@interrupted_option
@waiting_options
@cluster_options
@reports_interruption
def rollback(
    *,
    revision: int | None,
    interrupted: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    context: str,
    output: str,
) -> None:
    """Undo the last update: restore the previous revision of the add-on.

    A second rollback undoes the update before that. REVISION is the number of a revision in `helm history`; the
    command restores that one.

    The command refuses to start while another change is running. A change that helm has not ended counts as running
    for six minutes, which is longer than helm takes. --interrupted states that it was killed, and undoes it at once.

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
    from confcom.addon.operations.rollback import roll_back

    addon = add_on(namespace, context)
    done = roll_back(addon, revision, interrupted=interrupted, wait=wait, deadline=timeout)
    show_result(done.to_json(), f"Rolled back (revision {done.revision}).{start_note(wait=wait)}", output)

"""The command `confcom update`."""

from pathlib import Path

import click

from confcom.cli import add_on_options as options
from confcom.kubernetes.kubectl_flags import Login

_COMPONENTS = ("devicePlugin", "quoteHelper", "controller")
"""The programs with an image of their own, as the chart's values name them."""


@click.command()
@click.option(
    "--version",
    metavar="VERSION",
    help="The tag of all images.  [default: this program's version, if no other values are given]",
)
@options.chart_options
@options.waiting_options
@options.cluster_options
@options.interrupted_by_signals
def update(
    *,
    version: str | None,
    settings: tuple[str, ...],
    texts: tuple[str, ...],
    files: tuple[Path, ...],
    chart: Path | None,
    dry_run: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    login: Login,
    output: str,
) -> None:
    """Update the add-on node by node while applications continue to attest.

    On each node, the new daemon starts beside the old one, which serves until the new one is ready. If a new daemon
    cannot start or cannot make a quote, the update stops at that node: the old daemon continues to serve, the command
    reports the reason, and `confcom rollback` undoes the update. If the quote helper's image is not available, no
    daemon is changed.

    Without options, the command updates to this program's version, and drops a version or digest that was set before.
    With options, it changes only what they set.

    \b
    Examples:
      confcom update
      confcom update --version 0.2.0
      confcom update --version 0.2.0 --dry-run          print what would change, object by object
      confcom update --set logLevel=debug
      confcom update --set devicePlugin.image.digest=sha256:4567... --set quoteHelper.image.digest=sha256:89ab...

    \b
    Exit codes:
      1    helm failed
      7    a check failed or another change is running; nothing was changed
      8    the update stopped at a node
      2, 6 and 130 as for enable
    """
    from confcom.addon import install
    from confcom.addon.helm import Values
    from confcom.addon.preflight_inputs import InstallRequest

    wanted = []  # text, since a tag may look like a number
    if version or not (settings or texts or files):
        wanted = [f"image.tag={version or ''}", *(f"{one}.image.digest=" for one in _COMPONENTS)]
    # A key that the user set is left out here: helm's --set-string would override the user's --set.
    named = {one.partition("=")[0] for one in ",".join(settings).split(",")}
    wanted = [one for one in wanted if one.partition("=")[0] not in named]
    values = Values(files, settings, (*wanted, *texts))
    request = InstallRequest(options.chart_of(chart), values, allow_no_nodes=True, new_root=False)
    with options.opened(login, namespace) as add_on:
        done = install.update(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)
    how = "updated" if done.changed else "up to date already"
    options.show_change(add_on.cluster, done, f"The add-on is {how}", output, wait=wait, then="confcom test")

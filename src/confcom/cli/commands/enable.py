"""The commands `confcom enable`, `update` and `rollback`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from confcom.cli.add_on_options import (
    add_on,
    chart_of,
    chart_options,
    cluster_options,
    interrupted_option,
    show_result,
    waiting_options,
)
from confcom.cli.interruption import reports_interruption
from confcom.errors import SettingsError

_COMPONENTS = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper"}
"""The components' names on the command line, and in the chart's values."""
_DIGEST = re.compile(r"(?:(?P<component>[a-z-]+)=)?(?P<digest>sha256:[0-9a-f]{64})")


@click.command()
@click.option(
    "--simulated",
    is_flag=True,
    help="Simulate SGX on nodes with the label for it. Quotes then prove nothing about hardware.",
)
@click.option(
    "--simulated-node",
    "simulated_nodes",
    multiple=True,
    metavar="NODE",
    help="Label a node confcom.internal/simulated-sgx=true first; implies --simulated; may be repeated.",
)
@click.option(
    "--beside-hardware",
    is_flag=True,
    help="Allow simulation in a cluster that also has SGX hardware; simulated nodes offer other resource names.",
)
@click.option(
    "--quote-helper/--no-quote-helper",
    default=None,
    help="Install the quote helper, which makes quotes out of process, as one Pod per node.  [default: keep the "
    "previous choice; with it if there is none]",
)
@click.option(
    "--allow-no-nodes", is_flag=True, help="Succeed if no node has SGX yet; nodes that are added later get the daemons."
)
@chart_options
@waiting_options
@cluster_options
@reports_interruption
def enable(
    *,
    simulated: bool,
    simulated_nodes: tuple[str, ...],
    beside_hardware: bool,
    quote_helper: bool | None,
    allow_no_nodes: bool,
    settings: tuple[str, ...],
    texts: tuple[str, ...],
    files: tuple[Path, ...],
    chart: Path | None,
    dry_run: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    context: str,
    output: str,
) -> None:
    """Enable the SGX add-on on a cluster: EPC as a resource, quotes out of process.

    The command first checks the cluster; if a check fails, nothing is changed. Then helm installs the chart, and the
    command waits until both daemons are ready on every node with SGX. A second run without new options changes
    nothing; with other options, it changes only what they set.

    The first run needs the registry that has the images, or a digest for each image. Later runs keep them.

    \b
    Examples:
      confcom enable --no-quote-helper --set image.registry=registry.example.com/mirror
                                                        nodes with SGX hardware, EPC only
      confcom enable --simulated-node worker-1 --set image.registry=registry.example.com/mirror
                                                        no SGX hardware anywhere
      confcom enable --simulated --dry-run --set image.registry=registry.example.com/mirror
                                                        print what would change

    \b
    Exit codes:
      1    helm failed; in most cases its Job, which has the quote helper's image and runs before any daemon
      2    the chart refuses the values
      6    the cluster, kubectl or helm does not answer
      7    a check failed or another change is running; nothing was changed
      8    the add-on is installed, but a node is not ready, or a quote helper does not use the cluster's root
      130  Ctrl-C or SIGTERM; the last lines say what was changed, and what to do
    """
    from confcom.addon.cluster.helm import Values
    from confcom.addon.cluster.preflight_reader import InstallRequest
    from confcom.addon.operations.enable import enable_add_on

    chosen = []
    if simulated or simulated_nodes:
        chosen.append("simulated.enabled=true")
    if beside_hardware:
        chosen.append("simulated.besideHardware=true")
    if quote_helper is not None:
        chosen.append(f"quoteHelper.enabled={str(quote_helper).lower()}")
    values = Values(files, (*chosen, *settings), texts)
    request = InstallRequest(chart_of(chart), values, simulated_nodes, allow_no_nodes)
    addon = add_on(namespace, context)
    done = enable_add_on(addon, request, dry_run=dry_run, wait=wait, deadline=timeout)
    if not dry_run:
        how = "enabled" if done.changed else "enabled already"
        show_result(done.to_json(), f"The add-on is {how} (revision {done.revision}).{_start_note(wait)}", output)
    elif output == "json":
        show_result(done.to_json(), "", output)


@click.command()
@click.option(
    "--version",
    metavar="VERSION",
    help="The tag of both images.  [default: this program's version, if no other values are given]",
)
@click.option(
    "--image-digest",
    "digests",
    multiple=True,
    metavar="[COMPONENT=]DIGEST",
    help="An image by digest, sha256:...; COMPONENT is quote-helper (the default) or device-plugin; may be repeated.",
)
@chart_options
@waiting_options
@cluster_options
@reports_interruption
def update(
    *,
    version: str | None,
    digests: tuple[str, ...],
    settings: tuple[str, ...],
    texts: tuple[str, ...],
    files: tuple[Path, ...],
    chart: Path | None,
    dry_run: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    context: str,
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
      confcom update --image-digest sha256:0123...
      confcom update --image-digest device-plugin=sha256:4567... --image-digest quote-helper=sha256:89ab...
      confcom update --set logLevel=debug

    \b
    Exit codes:
      1    helm failed; in most cases its Job, and then no daemon was changed
      7    a check failed or another change is running; nothing was changed
      8    the update stopped at a node, or a quote helper does not use the cluster's root
      2, 6 and 130 as for enable
    """
    from confcom.addon.cluster.helm import Values
    from confcom.addon.cluster.preflight_reader import InstallRequest
    from confcom.addon.operations.enable import update_add_on

    wanted = image_texts(version, digests, others=bool(settings or texts or files))
    # In helm --set-string overrides --set, so a key that the user set is left out here and keeps the user's value.
    named = {one.partition("=")[0] for one in ",".join(settings).split(",")}
    wanted = tuple(one for one in wanted if one.partition("=")[0] not in named)
    request = InstallRequest(chart_of(chart), Values(files, settings, (*wanted, *texts)), allow_no_nodes=True)
    done = update_add_on(add_on(namespace, context), request, dry_run=dry_run, wait=wait, deadline=timeout)
    if not dry_run:
        how = "updated" if done.changed else "up to date already"
        show_result(done.to_json(), f"The add-on is {how} (revision {done.revision}).{_start_note(wait)}", output)
    elif output == "json":
        show_result(done.to_json(), "", output)


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
    from confcom.addon.operations.enable import roll_back

    addon = add_on(namespace, context)
    done = roll_back(addon, revision, interrupted=interrupted, wait=wait, deadline=timeout)
    show_result(done.to_json(), f"Rolled back (revision {done.revision}).{_start_note(wait)}", output)


def image_texts(version: str | None, digests: tuple[str, ...], *, others: bool) -> tuple[str, ...]:
    """Return the chart's values that choose the images, as text, since a tag may look like a number.

    Args:
        version: the tag of both images.
        digests: digests of single images, `[COMPONENT=]sha256:...`.
        others: whether other values are changed; then the images stay as they are unless they are named.

    Raises:
        SettingsError: a text is no digest, or its component is unknown.
    """
    if not version and not digests:
        wanted = () if others else ("tag=", "digest=")
        return tuple(f"{component}.image.{one}" for component in _COMPONENTS.values() for one in wanted)
    found = []
    if version:
        found += [f"{one}.image.{part}" for one in _COMPONENTS.values() for part in (f"tag={version}", "digest=")]
    for text in digests:
        match = _DIGEST.fullmatch(text)
        component = _COMPONENTS.get(match["component"] or "quote-helper") if match else None
        if match is None or component is None:
            raise SettingsError(
                f"{text} is not the digest of an image",
                error_code="digest-malformed",
                why=f"it is [COMPONENT=]sha256: and 64 hexadecimal digits; COMPONENT is {' or '.join(_COMPONENTS)}",
                remedy="take it from the registry, or that of the current image from `confcom status -o json`",
            )
        found.append(f"{component}.image.digest={match['digest']}")
    return tuple(found)


def _start_note(wait: bool) -> str:  # noqa: FBT001 # as the option
    return "" if wait else " Its daemons start by and by: see `confcom status`."

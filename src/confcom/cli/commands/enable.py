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
@click.option("--simulated", is_flag=True, help="On nodes without SGX that are labelled for it. Proves nothing.")
@click.option(
    "--simulated-node",
    "simulated_nodes",
    multiple=True,
    metavar="NODE",
    help="Label a node confcom.internal/simulated-sgx=true first; implies --simulated, may be repeated.",
)
@click.option(
    "--beside-hardware",
    is_flag=True,
    help="Simulate in a cluster that has SGX hardware too, under resource names of its own.",
)
@click.option(
    "--quote-helper/--no-quote-helper",
    default=None,
    help="Quotes out of process, by one Pod per node.  [default: as before; at first, with]",
)
@click.option("--allow-no-nodes", is_flag=True, help="Also if no node has SGX yet: those that come later get it.")
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

    Checks first what could make it fail, and changes nothing if something would. Then helm installs the chart, and
    this waits until both daemons are ready on every node with SGX. To enable again changes nothing; with other options
    it changes just these.

    The first time needs the registry that has the images, or a digest for each of them. Both are kept.

    \b
    Examples:
      confcom enable --no-quote-helper --set image.registry=registry.example.com/mirror
                                                        nodes with SGX hardware, EPC only
      confcom enable --simulated-node worker-1 --set image.registry=registry.example.com/mirror
                                                        no SGX hardware anywhere
      confcom enable --simulated --dry-run --set image.registry=registry.example.com/mirror
                                                        what would be done?

    Exit codes: 7 a check failed or another change is running, and nothing was changed, 8 it is installed, and some node
    is not ready or some quote helper does not quote by the cluster's root, 6 the cluster, kubectl or helm does not
    answer, 2 the chart refuses the values, 1 helm failed: mostly its Job, which comes before any daemon and has the
    quote helper's image, 130 Ctrl-C or SIGTERM: its last lines say what was changed, and what to do.
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
    "--version", metavar="VERSION", help="The images' tag.  [default: this program's version, if nothing else is named]"
)
@click.option(
    "--image-digest",
    "digests",
    multiple=True,
    metavar="[COMPONENT=]DIGEST",
    help="sha256:... of the quote helper's image, or of device-plugin=sha256:...; may be repeated.",
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
    """Update the add-on node by node while applications go on attesting.

    On each node the new daemon starts beside the old one, which serves until the new one is ready. An update that
    cannot start, or cannot quote, stops there by itself: the old one goes on serving, the reason is told, and
    `confcom rollback` undoes it. If the quote helper's image cannot be had, no daemon is changed.

    Without options it goes to this program's version, also from a version or digest that was named before. With
    options, only what they set is changed.

    \b
    Examples:
      confcom update
      confcom update --version 0.2.0
      confcom update --version 0.2.0 --dry-run          what would change, object by object?
      confcom update --image-digest sha256:0123...
      confcom update --image-digest device-plugin=sha256:4567... --image-digest quote-helper=sha256:89ab...
      confcom update --set logLevel=debug

    Exit codes: 8 it stopped at some node, or some quote helper does not quote by the cluster's root, 7 a check failed
    or another change is running, and nothing was changed, 1 helm failed: mostly its Job, and then no daemon was
    changed, 130, 6 and 2 as for enable.
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
    """Undo the last update: the add-on is what it was before.

    Another rollback undoes the update before that. REVISION, as `helm history` numbers them, names one.

    It does not begin beside another change: what helm has begun and not ended is left alone for six minutes, longer
    than helm takes. --interrupted says that it was killed, and undoes it at once.

    \b
    Examples:
      confcom rollback
      confcom rollback 3

    Exit codes: 8 some node is not ready, 7 there is nothing to go back to or another change is running, 130 as for
    enable, 6 as for enable, 1 helm failed.
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

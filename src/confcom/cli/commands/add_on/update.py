"""The command `confcom update`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from confcom.cli.add_on_options import (
    add_on,
    chart_of,
    chart_options,
    cluster_options,
    show_result,
    start_note,
    waiting_options,
)
from confcom.cli.interruption import reports_interruption
from confcom.errors import SettingsError

_COMPONENTS = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper", "controller": "controller"}
"""The components' names on the command line, and in the chart's values."""
_DIGEST = re.compile(r"(?:(?P<component>[a-z-]+)=)?(?P<digest>sha256:[0-9a-f]{64})")


@click.command()
@click.option(
    "--version",
    metavar="VERSION",
    help="The tag of all images.  [default: this program's version, if no other values are given]",
)
@click.option(
    "--image-digest",
    "digests",
    multiple=True,
    metavar="[COMPONENT=]DIGEST",
    help="An image by digest, sha256:...; COMPONENT is quote-helper (the default), device-plugin or controller; may "
    "be repeated.",
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
    from confcom.addon.operations.update import update_add_on

    wanted = image_texts(version, digests, others=bool(settings or texts or files))
    # In helm --set-string overrides --set, so a key that the user set is left out here and keeps the user's value.
    named = {one.partition("=")[0] for one in ",".join(settings).split(",")}
    wanted = tuple(one for one in wanted if one.partition("=")[0] not in named)
    request = InstallRequest(chart_of(chart), Values(files, settings, (*wanted, *texts)), allow_no_nodes=True)
    done = update_add_on(add_on(namespace, context), request, dry_run=dry_run, wait=wait, deadline=timeout)
    if not dry_run:
        how = "updated" if done.changed else "up to date already"
        show_result(done.to_json(), f"The add-on is {how} (revision {done.revision}).{start_note(wait=wait)}", output)
    elif output == "json":
        show_result(done.to_json(), "", output)


def image_texts(version: str | None, digests: tuple[str, ...], *, others: bool) -> tuple[str, ...]:
    """Return the chart's values that choose the images, as text, since a tag may look like a number.

    Args:
        version: the tag of all images.
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

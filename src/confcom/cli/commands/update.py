"""The command `confcom update`."""

import re
from pathlib import Path

import click

from confcom.cli import add_on_options as options
from confcom.errors import SettingsError
from confcom.kubernetes.kubectl_flags import Login

_COMPONENTS = {"device-plugin": "devicePlugin", "quote-helper": "quoteHelper", "controller": "controller"}
"""Keyed by a component's name on the command line: the component's name in the chart's values."""
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
@options.chart_options
@options.waiting_options
@options.cluster_options
@options.interrupted_by_signals
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
      confcom update --image-digest sha256:0123...
      confcom update --image-digest device-plugin=sha256:4567... --image-digest quote-helper=sha256:89ab...
      confcom update --set logLevel=debug

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

    wanted = image_texts(version, digests, others=bool(settings or texts or files))
    # A key that the user set is left out here: helm's --set-string would override the user's --set.
    named = {one.partition("=")[0] for one in ",".join(settings).split(",")}
    wanted = tuple(one for one in wanted if one.partition("=")[0] not in named)
    values = Values(files, settings, (*wanted, *texts))
    request = InstallRequest(options.chart_of(chart), values, allow_no_nodes=True, new_root=False)
    with options.opened(login, namespace) as add_on:
        done = install.update(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)
    how = "updated" if done.changed else "up to date already"
    options.show_change(add_on.cluster, done, f"The add-on is {how}", output, wait=wait, then="confcom test")


def image_texts(version: str | None, digests: tuple[str, ...], *, others: bool) -> tuple[str, ...]:
    """Return the chart values that choose the images; each is text, since a tag may look like a number.

    If `others` is true, the command sets other values too, and images that are not named stay as they are.
    """
    found = []
    if version or not (digests or others):
        found = [f"image.tag={version or ''}", *(f"{one}.image.digest=" for one in _COMPONENTS.values())]
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

"""Images without a registry that serves them: a table from a name to what would be in the image."""

from __future__ import annotations

import os
import shlex
import site
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from confcom.errors import SettingsError

SAMPLE_WORKLOAD = "registry.test/confcom/sample-workload:latest"
"""The program that the examples run; started with -P, so that nothing in its working directory is imported."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What container runtimes set if an image does not."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a container starts with.

    Args:
        argv: entrypoint; a manifest's `command` replaces it, `args` follow it.
        env: the image's variables.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"PATH": DEFAULT_PATH}))


def image_table(
    additions: Iterable[str] = (), *, python: str = sys.executable, python_path: str | None = None
) -> dict[str, Image]:
    """The built-in images and what `--image` adds.

    Args:
        additions: `NAME=ARGV`, ARGV as a shell would split it.
        python: the interpreter that runs the built-in ones.
        python_path: PYTHONPATH of the built-in ones; by default what this process found by its own and by its user's
            site directory, which a container with another HOME would not find.

    Raises:
        SettingsError: an addition is not of that form.
    """
    path = _python_path() if python_path is None else python_path
    env = {"PATH": DEFAULT_PATH, "PYTHONUNBUFFERED": "1", **({"PYTHONPATH": path} if path else {})}
    table = {SAMPLE_WORKLOAD: Image((python, "-P", "-m", "confcom.sample_workload"), MappingProxyType(env))}
    for addition in additions:
        name, equals, command = addition.partition("=")
        try:
            argv = tuple(shlex.split(command))
        except ValueError as error:
            raise _malformed(addition, str(error)) from None
        if not (name and equals and argv):
            raise _malformed(addition, "it is not of the form NAME=ARGV")
        table[name] = Image(argv)
    return table


def missing_image(name: str, table: Iterable[str]) -> str:
    """The kubelet's message for an image that is not there, and what to do about it here."""
    return (
        f'Container image "{name}" is not present with pull policy of Never. The playground pulls nothing: '
        f"it knows {', '.join(sorted(table))}; start the node with --image '{name}=PROGRAM ARG ...' to add it"
    )


def _python_path() -> str:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    user_site = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in (*entries, user_site) if entry in sys.path)


def _malformed(addition: str, why: str) -> SettingsError:
    return SettingsError(
        f"--image {addition!r} cannot be used",
        why=why,
        remedy="write it as in --image 'my/app:1=python3 /home/me/app.py --verbose'",
    )

"""The image table: it maps an image name to a program of this machine, since nothing is pulled from a registry."""

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
"""The image of the examples. Its program is started with -P, so that it imports nothing from its working directory."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that container runtimes set if the image sets none."""


@dataclass(frozen=True, slots=True)
class Image:
    """The entrypoint and the environment of an image.

    Args:
        argv: entrypoint; a manifest's `command` replaces it, `args` follow it.
        env: the image's variables.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"PATH": DEFAULT_PATH}))


def image_table(
    additions: Iterable[str] = (), *, python: str = sys.executable, python_path: str | None = None
) -> dict[str, Image]:
    """Return the built-in images and those that `--image` adds.

    Args:
        additions: `NAME=ARGV`; ARGV is split as a shell splits it.
        python: the interpreter that runs the built-in images.
        python_path: PYTHONPATH of the built-in images. The default is this process' PYTHONPATH and the user's site
            directory, which a container with another HOME would not find.

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
    """Return the kubelet's message for a missing image, and how to add the image to the playground."""
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
        error_code="image-malformed",
        why=why,
        remedy="write it as in --image 'my/app:1=python3 /home/me/app.py --verbose'",
    )

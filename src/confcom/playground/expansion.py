"""`$(NAME)` in a manifest's command, args and env values, as Kubernetes expands it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value; `$$` is a plain `$`; unknown names stay as they are."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def environment(base: Mapping[str, str], manifest: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A container's environment: each value may refer to what is above it, and replaces an equal name.

    Args:
        base: what the image and the device plugins set.
        manifest: the manifest's pairs in their order.
    """
    variables = dict(base)
    for name, value in manifest:
        variables[name] = expand(value, variables)
    return variables

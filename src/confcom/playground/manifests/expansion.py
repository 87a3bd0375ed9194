"""`$(NAME)` in a manifest's command, args and env values, as Kubernetes expands it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value and `$$` by `$`; leave unknown names unchanged."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def environment(base: Mapping[str, str], manifest: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a container's environment. A manifest value may refer to earlier variables, and replaces one of its name.

    Args:
        base: the variables of the image and the device plugins.
        manifest: the manifest's pairs in their order.
    """
    variables = dict(base)
    for name, value in manifest:
        variables[name] = expand(value, variables)
    return variables

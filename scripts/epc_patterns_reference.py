"""Write the table of ways to ask for EPC into docs/reference/epc-patterns.md; --check fails if what is there differs.

The same table is what the cases of e2e/full/test_admission.py hold the API server to.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence

from generated_part import ROOT, table, write_or_check

sys.path.insert(0, str(ROOT))

from e2e.admission.pattern import PROVIDER, Made, Manifest, Pattern, admitted
from e2e.admission.patterns import AMOUNTS, BESIDE_HARDWARE, CONTAINERS, IN_THE_WILD

HEAD = ("manifest", "asks for", "is admitted with")


def main() -> int:
    parts = {
        "manifests": patterns_table(IN_THE_WILD, used=True),
        "amounts": patterns_table(AMOUNTS),
        "containers": patterns_table(CONTAINERS),
        "names beside hardware": patterns_table(BESIDE_HARDWARE),
    }
    return write_or_check({"epc-patterns.md": parts})


def patterns_table(patterns: Sequence[Pattern], *, used: bool = False) -> str:
    rows = [(one.name, *([one.used] if used else []), asked(one.pod), became(one)) for one in patterns]
    return table((HEAD[0], *(["as in"] if used else []), *HEAD[1:]), rows)


def asked(pod: Manifest) -> str:
    lines = list(containers_of(admitted(pod), pod))
    provider = pod["metadata"].get("annotations", {}).get(PROVIDER)
    if provider:
        lines.append(f"annotation `{PROVIDER}: {provider}`")
    return "<br>".join(lines)


def became(pattern: Pattern) -> str:
    """Return the admitted containers' resources, or the refusal; and the warnings."""
    if pattern.refused:
        return f"**refused**: “{pattern.refused}…”"
    lines = list(containers_of(pattern.made, pattern.pod))
    if pattern.trusted:
        lines.append("where the namespace may have the provision device")
    return "<br>".join([*lines, *([f"**warning** at a template: “{pattern.warned}…”"] if pattern.warned else [])])


def containers_of(made: dict[str, Made] | object, pod: Manifest) -> Iterator[str]:
    """A text for each container: limits, then literal variables."""
    assert isinstance(made, dict)
    for name, one in made.items():
        amounts = [f"`{key}: {value}`" for key, value in amounts_of(name, one, pod)]
        variables = [f"`{key}={value}`" if value is not None else f"`{key}`" for key, value in one.env.items()]
        which = "" if len(made) == 1 else f"{name}: "
        yield which + (", ".join([*amounts, *variables]) or "nothing")


def amounts_of(name: str, one: Made, pod: Manifest) -> Iterable[tuple[str, object]]:
    """A container's limits, or its requests if it has only requests."""
    if one.limits:
        return one.limits.items()
    found = next((c for c in pod["spec"]["containers"] if c["name"] == name), {})
    requests = found.get("resources", {}).get("requests", {})
    return requests.items() if "limits" not in found.get("resources", {}) else ()


if __name__ == "__main__":
    sys.exit(main())

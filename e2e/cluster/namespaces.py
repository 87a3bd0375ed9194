"""The command that gives a program a control group and namespaces of its own, in which it is the first process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.cgroups import Hierarchy

NAMESPACES = ("mount", "net", "pid", "uts", "ipc")
"""Made by unshare(1); `cgroup` comes before them, when the process is in its group."""

_JOIN = 'for group in $0; do echo $$ > "$group/cgroup.procs" || exit; done; exec "$@"'


def make_groups(name: str, hierarchies: Sequence[Hierarchy]) -> tuple[Path, ...]:
    """A group of this name in every hierarchy, ready to take processes."""
    groups = tuple(hierarchy.create(name) for hierarchy in hierarchies)
    for leaf in _leaves(groups, hierarchies):
        leaf.mkdir(exist_ok=True)
    return groups


def separated(groups: Sequence[Path], hierarchies: Sequence[Hierarchy], program: Sequence[str]) -> list[str]:
    """The command for a program, which sees its groups (made before, one in each hierarchy) as the roots.

    Its process is the only child of the command's, which ends with it.
    """
    return [
        *("sh", "-c", _JOIN, " ".join(map(str, groups)), "unshare", "--cgroup", "--propagation=private"),
        *("sh", "-c", _JOIN, " ".join(map(str, _leaves(groups, hierarchies)))),
        *("unshare", *(f"--{kind}" for kind in NAMESPACES)),
        *("--fork", "--kill-child=KILL", "--propagation=private"),
        *program,
    ]


def _leaves(groups: Sequence[Path], hierarchies: Sequence[Hierarchy]) -> list[Path]:
    return [group / hierarchy.leaf for group, hierarchy in zip(groups, hierarchies, strict=True) if hierarchy.leaf]

"""List changes since the last release that break programs and are not in the changelog; exit with 1 if there are any.

griffe compares the modules of MODULES with those of the last tag vX.Y.Z before HEAD. The changelog names a change if
the headings "Changed" and "Removed" of this version's section have the object's name in backquotes.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe
from api_reference import MODULES
from generated_part import ROOT

Module = griffe.Object | griffe.Alias

PACKAGE = "confcom"
COLOUR = re.compile(r"\x1b\[[0-9]+m")
ANNOUNCING = ("Changed", "Removed")
"""Headings of the changelog under which a change of a promised name stands."""


def main(checkout: Path) -> int:
    listed = ["git", "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname"]
    tags = subprocess.run(listed, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if not tags:
        print("there is no earlier release: nothing to compare with")
        return 0
    new = griffe.load(PACKAGE, search_paths=[checkout / "src"], allow_inspection=False)
    old = griffe.load_git(PACKAGE, ref=tags[0], repo=checkout, search_paths=["src"], allow_inspection=False)
    version = ast.literal_eval(str(new["__version__"].value))
    announced = announcements((checkout / "CHANGELOG.md").read_text(), version)
    changes = dict(breaking_changes(old, new))
    missing = [text for text, name in changes.items() if not re.search(rf"`([\w.]+\.)?{name}(?![\w.])", announced)]
    print(
        f"{len(changes)} changes since {tags[0]} break programs; CHANGELOG lacks {len(missing)} of them",
        *missing,
        sep="\n",
    )
    return 1 if missing else 0


def announcements(changelog: str, version: str) -> str:
    """Return the text below the headings that announce changes, in the section of a version."""
    section = re.search(rf"^## {re.escape(version)}\b.*?(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    parts = re.split(r"^### ", section[0] if section else "", flags=re.MULTILINE)
    return "".join(part for part in parts if part.startswith(ANNOUNCING))


def breaking_changes(old: Module, new: Module) -> Iterator[tuple[str, str]]:
    """Describe each change of a promised module; the second text is the pattern of its name in the changelog."""
    for path in MODULES:
        before, now = (member(package, path) for package in (old, new))
        if before is None:
            continue
        if now is None:
            yield f"{path}: the module was removed", re.escape(path.removeprefix(f"{PACKAGE}."))
            continue
        for one in before.modules.values():
            one.public = False  # modules of a package are no part of the interface; the promised ones are in MODULES
        for breakage in griffe.find_breaking_changes(before, now):
            if not (breakage.kind is griffe.BreakageKind.OBJECT_REMOVED and breakage.obj.is_module):
                explained = COLOUR.sub("", breakage.explain().partition(": ")[2])  # without the place in the file
                yield f"{path}: {explained}", re.escape(qualified_name(breakage.obj))


def qualified_name(changed: griffe.Object | griffe.Alias) -> str:
    """Return the name of an object within its module; a constructor has its class's name."""
    names = []
    place: griffe.Object | griffe.Alias | None = changed
    while place and not place.is_module:
        names.append(place.name)
        place = place.parent
    return ".".join(reversed(names)).removesuffix(".__init__")


def member(package: Module, path: str) -> Module | None:
    try:
        return package[path.removeprefix(f"{PACKAGE}.")]
    except KeyError:
        return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT))

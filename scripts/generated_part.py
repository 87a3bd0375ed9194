"""Parts of reference pages that scripts make: each stands between two comments that name it and its script."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def write_or_check(pages: Mapping[str, Mapping[str, str]], folder: str = "reference") -> int:
    """Write the parts into their pages; with --check compare only, and say which command would mend it.

    Args:
        pages: by the name of a page, its parts: name and text.
        folder: the folder of docs that has the pages.

    Returns:
        0, or 1 if a page differs from what would be written.
    """
    script, differing = Path(sys.argv[0]).name, 0
    for name, parts in pages.items():
        page = DOCS / folder / name
        there = made = page.read_text()
        for part, text in parts.items():
            begin, end = f"<!-- {part}: made by scripts/{script} -->\n", f"<!-- end of {part} -->\n"
            before, found, rest = made.partition(begin)
            _, ended, after = rest.partition(end)
            if not found or not ended:
                sys.exit(f"{name} lacks the lines between which the {part} stand: {begin.strip()} and {end.strip()}")
            made = before + begin + text + end + after
        if "--check" not in sys.argv:
            page.write_text(made)
        elif made != there:
            print(f"docs/{folder}/{name} is not what it would be made now; run: python scripts/{script}")
            differing = 1
    return differing


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the head of the last column, which explains, may be empty."""
    lines = ["| " + " | ".join(cells) + " |\n" for cells in (head, *rows)]
    lines[0] = lines[0].replace("|  |", "| |")
    lines.insert(1, "|---" * len(head) + "|\n")
    return "".join(lines)

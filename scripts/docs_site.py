"""Build the site in site/ from docs/ and the pages at the root, strictly; each problem is one line with its page.

Usage: docs_site.py [--serve]     (--serve: a server that shows each change of a page)
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
FENCE_NAME = re.compile(r"\A(```\w+) (\S+)$", re.MULTILINE)
LIST_IN_PARAGRAPH = re.compile(r"^(?!\* |\d+\. )(\S.*)\n(?=\* |1\. )", re.MULTILINE)
UNRENDERED = re.compile(r"(?:\A|(?<=\n))```|(?<=\n)(?:\*|1\.) ")
VERBATIM = {"code", "pre", "script", "style"}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
WARNING = re.compile(r"Warning: (.*)\n.*\[ (.+?):(\d+):\d+ \]")
CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOOK_SECONDS = 1.0
"""Seconds between two looks for changed pages while the site is served."""


class Site:
    """The site of a checkout. Its pages are staged in build/, since some of them come from outside of docs/."""

    def __init__(self, root: Path, project_url: str) -> None:
        self.root = root
        self.site = root / "site"
        self._build = root / "build" / "site"
        self._project_url = project_url
        self._sources: dict[str, str] = {}
        """The page of the repository that each staged page is made from."""

    def stage(self) -> None:
        """Write the pages with their links changed, the files that they link, and the configuration."""
        pages = [*self.root.glob("*.md"), *(self.root / "docs").rglob("*")]
        for page in (self._name(path) for path in pages if path.is_file()):
            self._write_from(page)
        config = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
        _write(self._build / "mkdocs.yml", json.dumps({**config, "nav": self._navigation()}).encode())

    def build(self) -> list[str]:
        """Build the site; return the problems. A site with problems does not take the place of the last one."""
        shutil.rmtree(self._build, ignore_errors=True)
        self.stage()
        done = subprocess.run(
            [*self._zensical("build"), "--strict", "--clean"], capture_output=True, text=True, check=False
        )
        told = COLOUR.sub("", done.stdout + done.stderr)
        if done.returncode:
            found = [f"{self._source(page)}:{line}: {what}" for what, page, line in WARNING.findall(told)]
            return found or [told.strip().rpartition("\n")[2]]
        built = self._build / "site"
        found = [f"{self._source(page)}: {what}" for page, what in problems(built)]
        if not found:
            shutil.rmtree(self.site, ignore_errors=True)
            built.rename(self.site)
        return found

    def serve(self) -> None:
        self.stage()
        with contextlib.suppress(KeyboardInterrupt), subprocess.Popen(self._zensical("serve")) as server:
            while server.poll() is None:
                time.sleep(LOOK_SECONDS)
                self.stage()

    def _zensical(self, command: str) -> list[str]:
        return [sys.executable, "-m", "zensical", command, "--config-file", str(self._build / "mkdocs.yml")]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _source(self, page: str) -> str:
        return self._sources.get(page.removesuffix(".html").removesuffix(".md"), page)

    def _navigation(self) -> list[object]:
        """The sections of docs/README.md with their pages; a page stands where it is linked first."""
        pages = ["index.md", "pages.md"]
        sections: list[object] = [*pages]
        for section in (self.root / "docs" / "README.md").read_text().split("\n## ")[1:]:
            found = []
            for target in dict.fromkeys(LINK.findall(section)):
                there = self.root / "docs" / target
                beside = [there, *sorted(there.glob("*.md"))] if there.is_dir() else [there]
                found += [_place(os.path.normpath(self._name(each)), each) for each in beside]
            sections.append({section.partition("\n")[0]: [page for page in found if page not in pages]})
            pages += found
        return sections

    def _write_from(self, name: str) -> None:
        """Stage a file of the repository; of a folder, a page with its files."""
        path = self.root / name
        place = _place(name, path)
        if path.is_dir():
            shown = [each for each in sorted(path.iterdir()) if each.is_file()]
            lines = [f"* [{_title(each)}]({each.name})" for each in shown]
            self._write_page(f"{name}/README.md", place, "\n".join([f"# {_title(path)}", "", *lines, ""]))
        elif path.suffix == ".md":
            self._sources[place.removesuffix(".md")] = name
            self._write_page(name, place, path.read_text())
        else:
            _write(self._build / "docs" / place, path.read_bytes())

    def _write_page(self, name: str, place: str, text: str) -> None:
        def changed(match: re.Match[str]) -> str:
            target = os.path.normpath(Path(name).parent / match[1])
            if "://" in match[1] or not (self.root / target).exists():
                return match[1]
            there = _place(target, self.root / target)
            if there.startswith("files/") and self._project_url:
                return f"{self._project_url}/blob/HEAD/{target}"
            if there.startswith("files/") or (self.root / target).is_dir():
                self._write_from(target)
            return os.path.relpath(there, Path(place).parent)

        parts = FENCE.split(text)
        parts[::2] = [LINK.sub(changed, LIST_IN_PARAGRAPH.sub(r"\1\n\n", part)) for part in parts[::2]]
        parts[1::2] = [FENCE_NAME.sub(_titled, part) for part in parts[1::2]]
        _write(self._build / "docs" / place, "".join(parts).encode())


def _place(name: str, path: Path) -> str:
    """Return the place of a repository's file in the site; a folder is a page."""
    if name in ("README.md", "docs/README.md"):
        return {"README.md": "index.md"}.get(name, "pages.md")
    inside = name.removeprefix("docs/")
    place = inside if inside != name or ("/" not in name and path.suffix == ".md") else f"files/{name}"
    return f"{place}/index.md" if path.is_dir() else place


def _titled(fence: re.Match[str]) -> str:
    """Show a fence's file name as its title. The builder renders no fence with a second word, and GitHub does."""
    return f'{fence[1]} title="{fence[2]}"' if "." in fence[2] else fence[1]


def _title(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text().partition("\n")[0].removeprefix("# ")
    return {"adr": "Decisions"}.get(path.name, path.name)


def _write(path: Path, content: bytes) -> None:
    """Write a file if its content is another one, so that a server sees a change only where there is one."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Html(HTMLParser):
    """The ids of a page's elements, its links, and the addresses that a browser asks for by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.resources: set[str] = set()
        self.unrendered: list[str] = []
        self._verbatim = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._verbatim += tag in VERBATIM
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name in {"src", "href", "poster", "xlink:href"}:
                (self.links if tag == "a" else self.resources).add(value or "")
            elif name == "srcset":
                self.resources |= {part.split()[0] for part in (value or "").split(",")}
            elif name == "style":
                self.resources |= {*CSS_URL.findall(value or "")}

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in VERBATIM

    def handle_data(self, data: str) -> None:
        if not self._verbatim and (found := UNRENDERED.search(data)):
            self.unrendered.append(data[found.start() :].partition("\n")[0])


def problems(site: Path) -> Iterator[tuple[str, str]]:
    """Find dead links of a site, and what it would ask another host for; yield the file and the problem."""
    pages: dict[Path, Html] = {}
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".svg"}:
            pages[path] = Html(path.read_text())
        if path.suffix in {".css", ".html", ".svg"}:
            pages.setdefault(path, Html("")).resources |= {*CSS_URL.findall(path.read_text())}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        yield from ((name, f"the Markdown {text!r} is not rendered") for text in page.unrendered)
        for target in sorted(page.links | page.resources):
            scheme, host, place, _, anchor = urlsplit(target)
            there = (site / place.lstrip("/") if place.startswith("/") else path.parent / unquote(place)).resolve()
            there = path if not place else there / "index.html" if there.is_dir() else there
            if scheme == "data" or (target in page.links and scheme):
                continue
            if scheme or host:
                yield name, f"{target} would be asked from another host"
            elif not there.exists():
                yield name, f"the link {target} leads nowhere"
            elif anchor and target in page.links and there in pages and unquote(anchor) not in pages[there].ids:
                yield name, f"the link {target} leads to no part of its page"


def _project_url() -> str:
    text = (ROOT / "src" / "confcom" / "__init__.py").read_text()
    return re.search(r'^PROJECT_URL = "(.*)"$', text, re.MULTILINE)[1]


def main() -> int:
    began, site = time.monotonic(), Site(ROOT, _project_url())
    if "--serve" in sys.argv[1:]:
        site.serve()
        return 0
    found = site.build()
    for problem in found:
        print(f"docs: {problem}")
    pages = len(list(site.site.rglob("*.html")))
    print(f"docs: {pages} pages in site/, {len(found)} problems, {time.monotonic() - began:.0f} s")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = re.compile(r"^[$#] ")
CONTROL = set("|;&()")
REDIRECTIONS = {">", "<", ">>", ">&"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command line at a prompt in a page, with its continuation lines."""

    page: str
    name: str
    """Word after the language of the code block, such as `demo`."""
    line: str

    def __str__(self):
        return f"{self.page}: {self.line}"

    def programs(self):
        """The words of each program that the line starts, without redirections and variable assignments."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for token in lexer:
            if set(token) <= CONTROL:
                yield from _program(words)
                words = []
            else:
                words.append(token)
        yield from _program(words)


def _program(words):
    while words and ("=" in words[0] or words[0] in {"in", "esac"} or words[0].isdigit()):
        words = words[1:]
    kept, skipping = [], False
    for word, following in pairwise([*words, ""]):
        if skipping:
            skipping = False
        elif word in REDIRECTIONS:
            skipping = True
        elif not (word.isdigit() and following in REDIRECTIONS):  # this number names the redirected stream
            kept.append(word)
    if kept:
        yield kept


def text_of(page):
    return (ROOT / page).read_text()


def blocks(page, language):
    return [match[3] for match in FENCE.finditer(text_of(page)) if match[1] == language]


def blocks_of(page, heading, language):
    """Code blocks between a heading of the second level and the next one."""
    section = text_of(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [match[3] for match in FENCE.finditer(section) if match[1] == language]


def files(language):
    """Code blocks of a language in all pages, keyed by the block's file name or a generated name."""
    found = {}
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(text_of(page))):
            if match[1] == language:
                found[match[2].strip() or f"{Path(page).stem.replace('-', '_').lower()}_{number}.py"] = match[3]
    return found


def commands(page):
    found = []
    for match in FENCE.finditer(text_of(page)):
        language, name, body = match.groups()
        joined = re.sub(r"\\\n\s*", "", body).splitlines()
        if language == "console":
            lines = [PROMPT.sub("", line) for line in joined if PROMPT.match(line)]
        elif language == "sh":
            lines = [line for line in joined if line.strip()]
        else:
            continue
        found += [Command(page, name.strip(), line) for line in lines]
    return found

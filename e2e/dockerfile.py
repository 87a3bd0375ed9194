"""The stages of a Dockerfile, and the images on which they are built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    instructions: list[tuple[str, str]]  # keyword, and arguments as one line

    def all(self, keyword: str) -> list[str]:
        return [arguments for found, arguments in self.instructions if found == keyword]


def stages_of(path: Path) -> dict[str, Stage]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages: list[Stage] = []
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        keyword, _, arguments = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(Template(base).substitute(defaults), name or str(len(stages)), []))
        elif keyword == "ARG" and not stages:
            variable, _, value = arguments.partition("=")
            defaults[variable] = Template(value).substitute(defaults)
        elif keyword:
            stages[-1].instructions.append((keyword, " ".join(arguments.split())))
    return {stage.name: stage for stage in stages}

import re
from dataclasses import dataclass
from string import Template


@dataclass
class Stage:
    base: str
    name: str
    instructions: list  # tuples (keyword, arguments as one line)

    def all(self, keyword):
        return [arguments for found, arguments in self.instructions if found == keyword]


def stages_of(path):
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages, defaults = [], {}
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

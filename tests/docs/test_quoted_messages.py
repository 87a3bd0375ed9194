"""The page of symptoms quotes messages of our programs as they are in the source."""

import ast
import re

import pytest

from testkit.documentation import ROOT

PAGE = re.sub(r"```.*?```", "", (ROOT / "docs/how-to/troubleshoot.md").read_text(), flags=re.DOTALL)
COMMAND = re.compile(r"(?:confcom|kubectl|helm|rm|systemctl|ls|chown|--)[ \w-]")
FOREIGN = {"Failed to connect to socket", "Failed to open Intel", "conflict with"}
"""Messages on the page that come from Intel's library or from Kubernetes."""
FILLED_IN = re.compile(r"\.\.\.|[\"'<>{}/:=,;()]|\b[A-Z]{3,}\b|\d+")


def source():
    for path in (ROOT / "src" / "confcom").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.JoinedStr(values=parts):
                    yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in parts)
    for path in (ROOT / "charts").rglob("*.*"):
        yield path.read_text()


SOURCE = " ".join("\n".join(source()).split())
QUOTED = sorted(
    {" ".join(one.split()) for one in re.findall(r"`([^`]+)`", PAGE) if one.count(" ") > 1 and not COMMAND.match(one)}
)


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_in_the_source(quoted):
    parts = [part.strip(" .") for part in FILLED_IN.split(quoted)]
    assert [part for part in parts if " " in part and part not in SOURCE and part not in FOREIGN] == []

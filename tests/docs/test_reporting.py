"""Nobody is sent to a form or a tracker that does not exist, and the forms ask for what the commands make."""

import re

import pytest

import confcom
from confcom.cli.group import COMMANDS
from testkit.documentation import PAGES, ROOT, text_of

FORM = re.compile(r'/security/advisories|/issues/new|"Report a vulnerability"')
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_a_form_is_promised_only_with_the_projects_address():
    promised = {page for page in PAGES if FORM.search(text_of(page))}
    assert ("SECURITY.md" in promised) == bool(confcom.PROJECT_URL)
    assert ("`PROJECT_URL`" in text_of("SECURITY.md")) != bool(confcom.PROJECT_URL)
    assert promised <= {"SECURITY.md"} or confcom.PROJECT_URL


@pytest.mark.parametrize(("template", "command"), [("bug", "sysdump"), ("hardware", "hardware-report")])
def test_a_form_asks_for_what_a_command_makes(template, command):
    named = set(re.findall(r"`confcom ([\w-]+)", (TEMPLATES / f"{template}.md").read_text()))
    assert command in named
    assert named <= set(COMMANDS)

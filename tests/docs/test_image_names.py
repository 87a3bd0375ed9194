"""A reader who runs text from a page or an example gets no image from a name that others may own."""

import re

from testkit.documentation import PAGES, ROOT, blocks, commands

OURS = re.compile(r"(?P<registry>[\w.:/-]+/)?confcom/(?:device-plugin|quote-helper|controller|sample-workload)\b")
"""The project's image names in a command or a manifest."""
PLACEHOLDERS = ("REGISTRY/", "registry.test/")
"""A registry that readers replace, and a registry whose host name nobody can own (RFC 6761)."""

EXAMPLES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples").glob("*.yaml"))]


def manifests(place):
    return [(ROOT / place).read_text()] if place in EXAMPLES else blocks(place, "yaml")


def named(place):
    typed = [command.line for command in commands(place)] if place in PAGES else []
    return [match for text in (*typed, *manifests(place)) for match in OURS.finditer(text)]


def test_each_image_of_ours_has_the_readers_registry():
    registries = {place: {match["registry"] for match in named(place)} for place in (*PAGES, *EXAMPLES)}
    assert {place for place, found in registries.items() if found} >= {"docs/tutorial/first-quote.md", *EXAMPLES}
    assert {place: found for place, found in registries.items() if found - {*PLACEHOLDERS}} == {}

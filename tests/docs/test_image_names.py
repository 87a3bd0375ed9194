"""A reader who runs text from a page gets no image from a name that others may own."""

import re

from testkit.documentation import PAGES, blocks, commands

OURS = re.compile(r"(?P<registry>[\w.:/-]+/)?confcom/(?:device-plugin|quote-helper|controller|sample-workload)\b")
"""The project's image names in a command or a manifest."""
PLACEHOLDERS = ("REGISTRY/", "registry.test/")
"""A registry that readers replace, and a registry whose host name nobody can own (RFC 6761)."""


def named(page):
    typed = [command.line for command in commands(page)]
    return [match for text in (*typed, *blocks(page, "yaml")) for match in OURS.finditer(text)]


def test_each_image_of_ours_has_the_readers_registry():
    registries = {place: {match["registry"] for match in named(place)} for place in PAGES}
    assert registries["docs/tutorial/first-quote.md"]
    assert {place: found for place, found in registries.items() if found - {*PLACEHOLDERS}} == {}

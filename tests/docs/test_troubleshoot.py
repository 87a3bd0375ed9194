"""Messages, metrics and values that pages name are those that the programs have."""

import errno
import os
import re
import socket

import pytest

from confcom.client.errors import connect_error
from confcom.quote_helper.takeover.takeover_policy import Foreign, Instance, decide
from testkit.documentation import PAGES, ROOT, text_of

PAGE = "docs/how-to/troubleshoot.md"
PATH = "/var/run/aesmd/aesm.socket"
WORDED = (
    "another program serves the socket",
    "no SGX device exists here",
    "another SGX device plugin runs on",
    "another device plugin offers",
    "the kubelet offers no EPC",
    "the kubelet has not registered ",
    "the kubelet reports ",
    "it is tainted ",
    "it starts when EPC becomes free",
    "its memory limit is ",
    "a change of the release is in progress, ",
    "a change of the release was interrupted",
    "not registered yet",
    "another change of the release is running",
    "an earlier change of the release is incomplete",
    "there is no current context, neither in a file that KUBECONFIG names nor in ~/.kube/config",
    "this user may not connect to",
    "this user may not connect to the AESM socket",
    "asks for sgx.intel.com/provision, which namespace",
)
"""Parts of our own messages, in pages and in code."""


def squeezed(text):
    """Without what code writes between the parts of a message."""
    joined = re.sub(r'"\s*\n\s*f?"|"\s*\n\s*\+\s*"', "", text)
    return joined.replace('{{ join " or " $provision }}', "sgx.intel.com/provision")


@pytest.fixture(scope="module")
def sources():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "charts").rglob("*.yaml")]
    return "\n".join(squeezed(file.read_text()) for file in files)


@pytest.mark.parametrize("words", WORDED)
def test_a_message_is_worded_as_in_the_code(words, sources):
    pages = "\n".join(text_of(page) for page in PAGES if page.startswith("docs/how-to/"))
    assert words in " ".join(pages.split())
    assert words in sources


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED], ids=["none", "stale"])
def test_a_socket_that_nobody_serves_is_told_so(tmp_path, number):
    path = tmp_path / "s"
    if number == errno.ECONNREFUSED:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    error = connect_error(path, OSError(number, os.strerror(number)))
    assert f"`{error.what.replace(str(path), PATH)}`" in text_of(PAGE)


def test_another_service_is_told_so():
    me = Instance(started_ms=1, token=1)
    decision = decide(Foreign("another program serves the socket"), me=me, can_quote=True, replace_foreign=False)
    assert f"`{decision.reason}`" in text_of(PAGE)


def test_metrics_that_pages_name_are_in_the_reference():
    reference = text_of("docs/reference/quote-helper.md") + text_of("docs/reference/device-plugin.md")
    named = {
        name
        for page in PAGES
        for name in re.findall(r"`(confcom_(?:sgx|quote_helper|device_plugin)_\w+)", text_of(page))
    }
    assert len(named) > 20
    assert {name for name in named if f"| `{name}` |" not in reference} == set()

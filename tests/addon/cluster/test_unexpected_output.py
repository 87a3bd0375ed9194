"""What kubectl and helm print need not be what was asked for: a wrapper or a proxy may answer in their place."""

import json
from pathlib import Path

import pytest

from confcom.addon.cluster.helm import Helm, Values
from confcom.addon.cluster.kubectl import Cluster, KubeApi
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.cluster.unexpected_output import MAX_SHOWN_CHARACTERS
from confcom.addon.release.revision_history import Revision
from testkit.cluster_programs import saying

LOGIN_PAGE = b"<!DOCTYPE html>\n<html><title>Sign in</title> \x1b[2J\n" + b"<p>please</p>\n" * 1000
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}


def api(stdout):
    return KubeApi(Cluster(), saying(stdout))


def helm(stdout):
    return Helm(Cluster(), saying(stdout))


ASKED = {
    "version": lambda stdout: api(stdout).server_version(),
    "list": lambda stdout: api(stdout).list_objects("nodes"),
    "namespace": lambda stdout: api(stdout).find_namespace(),
    "review": lambda stdout: api(stdout).review([POD]),
    "history": lambda stdout: helm(stdout).history(),
    "values": lambda stdout: helm(stdout).values(),
    "manifest": lambda stdout: helm(stdout).installed(),
    "hooks": lambda stdout: helm(stdout).hooks(),
    "render": lambda stdout: helm(stdout).render(Path("chart"), Values()),
}
KUBECTL = {"version", "list", "namespace", "review"}


@pytest.mark.parametrize("asked", ASKED)
def test_a_login_page_is_shown_by_its_beginning(asked):
    with pytest.raises(ClusterAccessError) as caught:
        ASKED[asked](LOGIN_PAGE)
    error = caught.value
    program = "kubectl" if asked in KUBECTL else "helm"
    assert error.error_code == "output-not-readable"
    assert error.what
    assert error.why.split()[0] == program
    assert ": <!DOCTYPE html> <html><title>Sign in</title> \\x1b[2J <p>" in error.why
    assert len(error.why) < 2 * MAX_SHOWN_CHARACTERS + 100
    assert f": {program} " in error.remedy


NO_OBJECT = [b"[]", b"null", b"1", b'"text"', b"{} {}", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"1" * 5000]
LISTS = [b'{"error": "log in"}', b'{"items": {}}', b'{"items": [1]}', b'{"kind": "List", "items": [{}]}']
HISTORIES = [b"", b"{}", b"[1]", b'[{"revision": "x"}]', b'[{"revision": 1e999}]', b"[{}", b'[{"revision": 1}]']
UNREADABLE = {
    "version": NO_OBJECT,
    "list": [*NO_OBJECT, *LISTS],
    "namespace": [*NO_OBJECT, b'{"error": "log in"}', b'{"kind": "A"} {"kind": "A"}'],
    "review": [b'{"error": "log in"}', b"[]", b"{} 1", b"null", b"{}{", b"\xff", b"[" * 100_000],
    "history": HISTORIES,
    "values": [b"", b"[]", b"1", b"{} {}", b"{", b"\xff"],
    "manifest": [b"- a\n", b"a: 1\n", b"kind: [x]\n", b"kind: A\n", b"'", b"\xff", b"a: 2026-99-99\n", b"[" * 10_000],
    "render": [b"", b"null", b"[]", b"{", b'{"manifest": "\'"}', b'{"manifest": "\\ud800"}', b'{"manifest": "words"}']
    + [json.dumps({"hooks": [{"manifest": manifest}]}).encode() for manifest in ("'", "words", "a: 1")],
}


@pytest.mark.parametrize(
    ("asked", "stdout"), [(asked, one) for asked, several in UNREADABLE.items() for one in several]
)
def test_what_has_another_form_is_an_error_of_the_tree(asked, stdout):
    with pytest.raises(ClusterAccessError) as caught:
        ASKED[asked](stdout)
    assert caught.value.error_code == "output-not-readable"
    assert caught.value.why.isprintable()
    assert len(caught.value.why) < 2 * MAX_SHOWN_CHARACTERS + 100


DUMP = json.dumps(POD).encode()


@pytest.mark.parametrize(
    ("asked", "stdout", "read"),
    [
        ("list", b'{"kind": "List", "items": null}', ()),  # as Go has an empty one
        ("list", b"", ()),
        ("list", b'\xef\xbb\xbf{"kind": "List", "items": [%s]}' % DUMP, (POD,)),
        ("history", b"null", ()),
        ("history", b'[{"revision": 2, "status": "deployed"}]', (Revision(2, "deployed", ""),)),
        ("version", b'{"clientVersion": {}, "serverVersion": null}', ""),
        ("namespace", b"\n", None),
        ("review", b"", ()),
        ("review", DUMP + b"\n" + DUMP, (POD, POD)),
        ("values", b"null\n", {}),
        ("manifest", b"", ()),
        ("manifest", b"---\n" + DUMP + b"\n---\n" + DUMP, (POD, POD)),
        ("hooks", b"---\n# none\n", ()),
    ],
)
def test_what_is_as_it_was_asked_for(asked, stdout, read):
    assert ASKED[asked](stdout) == read
    assert ASKED["render"](b'{"hooks": null}').manifests == ()


@pytest.mark.parametrize("stdout", [b"\xff", LOGIN_PAGE, b"<a>", b"pod/a\n{}", b"https://sign.in/here"])
@pytest.mark.parametrize(
    "ask", [lambda stdout: api(stdout).missing([POD]), lambda stdout: api(stdout).exists("pod", "a")]
)
def test_other_words_are_no_names(ask, stdout):
    with pytest.raises(ClusterAccessError) as caught:
        ask(stdout)
    assert caught.value.error_code == "output-not-readable"


def test_names():
    assert api(b"pod/a\n").missing([POD]) == ()
    assert api(b"\n").missing([POD]) == (POD,)
    assert api(b"pod/a\n").exists("pod", "a")
    assert not api(b"").exists("pod", "a")

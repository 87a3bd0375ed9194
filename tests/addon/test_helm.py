import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.helm import OVERWRITE, ChartError, Helm, HelmError, Revision, Values, chart_folder, run_helm
from testkit.conditions import until
from testkit.expected_errors import raises
from testkit.fake_api import FakeApi, cluster_of

FORBIDDEN = 'nodes is forbidden: User "eve" cannot list resource "nodes" in API group "" at the cluster scope'
LOOKUP = """Error: UPGRADE FAILED: template: confcom/templates/checks.yaml:78:4: executing
"confcom/templates/checks.yaml" at <include "confcom.checkConsent" .>: error calling include: template:
confcom/templates/_nodes.tpl:96:16: executing "confcom.checkConsent" at <lookup "v1" "Node" "" "">:
error calling lookup:"""
CHART_REFUSAL = """Error: execution error at (confcom/templates/checks.yaml:1:1):

confcom: nothing was changed, because a is not b.
  why: of c.
  do:  set d:
         --set d=1
       or e
{code}
Use --debug flag to render out invalid YAML
"""
HISTORY = [{"revision": 3, "status": "deployed", "updated": "2026-01-01T01:00:00+01:00", "description": "ok"}]


class Answers:
    """A helm that gives every command the same answer, and records command lines and inputs in `asked`."""

    def __init__(self):
        self.asked, self.answer = [], (0, "[]", "")

    def __call__(self, arguments, stdin):
        self.asked.append((list(arguments), stdin))
        code, out, err = self.answer
        return subprocess.CompletedProcess(arguments, code, out.encode(), err.encode())


@pytest.fixture
def helm():
    return Answers()


@pytest.fixture
def release(helm):
    return Helm(cluster_of(FakeApi()), helm)


def test_values_are_given_in_the_order_in_which_they_win(helm, release, tmp_path):
    release.upgrade(tmp_path / "chart", Values((tmp_path / "v.yaml",), ("b=2",), ("c=3",), {"a": 1}))
    line, stdin = helm.asked[-1]
    assert [word for word in line if word.startswith(("--values", "--set"))] == [
        "--values=-",
        f"--values={tmp_path}/v.yaml",
        "--set=b=2",
        "--set-string=c=3",
    ]
    assert json.loads(stdin) == {"a": 1}
    assert line[line.index("--") :] == ["--", "confcom", f"{tmp_path}/chart"]
    assert {"--install", "--reset-values"} <= set(line)


@pytest.mark.parametrize(("history", "overwrites"), [([], False), (HISTORY, True)])
def test_only_a_change_takes_over_the_fields_of_other_managers(helm, release, history, overwrites):
    helm.answer = (0, json.dumps(history), "")
    release.upgrade(Path("chart"), Values())
    assert (set(OVERWRITE) <= set(helm.asked[-1][0])) is overwrites


def test_rendering_changes_nothing(helm, release):
    manifest = "apiVersion: v1\nkind: A\n---\n# nothing\n---\napiVersion: v1\nkind: B\n"
    helm.answer = (0, json.dumps({"manifest": manifest, "config": {"x": 1}}), "")
    rendering = release.render(Path("chart"), Values())
    assert "--dry-run=server" in helm.asked[0][0]
    assert ([one["kind"] for one in rendering.manifests], rendering.config) == (["A", "B"], {"x": 1})


@pytest.mark.parametrize(("why", "error"), [(FORBIDDEN, ForbiddenError), ("no route to host", ClusterAccessError)])
def test_a_failed_lookup_is_told_without_places_in_templates(helm, release, why, error):
    helm.answer = (1, "", f"{LOOKUP} {why}")
    with pytest.raises(error) as caught:
        release.render(Path("chart"), Values())
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (CHART_REFUSAL.format(code=""), ChartError, "chart-values-refused"),
        (CHART_REFUSAL.format(code="\n  code: a-is-not-b\n"), ChartError, "a-is-not-b"),
        ("Error: values don't meet the specifications: - at '/x': got boolean", ChartError, "chart-values-refused"),
        ('Error: failed to query: secrets is forbidden: User "eve"', ForbiddenError, "forbidden"),
        (f"Error: {'x' * 400} is forbidden: {'y' * 400}", ForbiddenError, "forbidden"),
        ("Error: connection refused", ClusterAccessError, "cluster-request-failed"),
        ("", ClusterAccessError, "cluster-request-failed"),
    ],
)
def test_who_is_to_blame_when_it_cannot_be_rendered(helm, release, said, kind, code):
    helm.answer = (1, "", said)
    with pytest.raises(kind) as caught:
        release.render(Path("chart"), Values())
    assert (caught.value.error_code, bool(caught.value.why)) == (code, True)
    if "a is not b" in said:  # the chart's message without helm's own text
        assert caught.value.what.endswith(": a is not b")
        assert (caught.value.why, caught.value.remedy) == ("of c", "set d: --set d=1; or e")


@pytest.mark.parametrize("said", ["level=WARN msg=x\nI1129 10:00 y\nError: timed out\nError: timed out\n", ""])
def test_a_failed_change_has_helms_own_words(helm, release, said):
    helm.answer = (1, "", said)
    with raises("helm-failed", HelmError) as caught:
        release.rollback(2)
    assert caught.value.why == ("timed out" if said else "helm exited with 1 and said nothing")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((1, "", "Error: release: not found"), None),
        ((1, "", 'Error: query: secrets is forbidden: User "eve"'), ForbiddenError),
        ((1, "", "Error: no route"), ClusterAccessError),
        ((0, "<html>", ""), ClusterAccessError),
        ((0, "null", ""), None),
    ],
)
def test_a_release_that_cannot_be_read(helm, release, answer, error):
    helm.answer = answer
    if error is None:
        assert release.history() == ()
        return
    with pytest.raises(error):
        release.history()


@pytest.mark.parametrize(
    ("stream", "count"), [("", 0), ("a: [", None), ("hello", None), ("- a", None), ("kind: A\napiVersion: v1", 1)]
)
def test_manifests_are_kubernetes_objects(helm, release, stream, count):
    helm.answer = (0, stream, "")
    if count is None:
        with pytest.raises(ClusterAccessError):
            release.manifests()
    else:
        assert len(release.manifests(2)) == count
        assert "--revision=2" in helm.asked[-1][0]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (HISTORY[0], ("deployed", True, False, 0)),
        ({"revision": 3, "status": "superseded", "description": "Rollback to 1"}, ("superseded", True, False, 1)),
        ({"revision": 3, "status": "deployed", "rollback_revision": 2}, ("deployed", True, False, 2)),
        (
            {"revision": 3, "status": "superseded", "description": 'Upgrade "x" failed: y'},
            ("superseded", False, False, 0),
        ),
        ({"revision": 3, "status": "pending-upgrade", "description": "Preparing"}, ("pending-upgrade", False, True, 0)),
        ({"revision": 3, "status": "uninstalling"}, ("uninstalling", False, True, 0)),
        ({"revision": 3, "status": "failed"}, ("failed", False, False, 0)),
    ],
)
def test_a_revision(found, expected):
    one = Revision.parse(found)
    assert (one.status, one.was_applied, one.is_unfinished, one.copy_of) == expected
    assert ("2026-01-01 00:00:00 UTC" in one.described) is ("updated" in found)


def test_no_helm_is_an_error_of_ours(release, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises("program-not-found", ClusterAccessError):
        Helm(release.cluster, run_helm).version()


RUN = """
import sys
from confcom.addon.helm import run_helm
try:
    print(run_helm(["helm", "upgrade"], b"").returncode)
except KeyboardInterrupt:
    print("interrupted")
"""
FAKE = """#!/bin/sh
echo begun >> "$LOG"
env | grep -c HELM_ >> "$LOG"
trap 'echo asked >> "$LOG"; exit 1' INT
while [ ! -e "$LOG.end" ]; do sleep 0.02; done
echo ended >> "$LOG"
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
async def test_helm_ends_its_change_when_the_command_is_interrupted_or_killed(tmp_path, number):
    program, log = tmp_path / "helm", tmp_path / "log"
    program.write_text(FAKE)
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "HELM_NAMESPACE": "other"}
    with subprocess.Popen(  # noqa: ASYNC220 # the start does not block
        [sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        await until(lambda: log.exists() and "begun" in log.read_text())
        os.killpg(process.pid, number)
        (tmp_path / "log.end").touch()
        out, _ = process.communicate(timeout=20)
    await until(lambda: "ended" in log.read_text())
    assert log.read_text().split() == ["begun", "0", "ended"]
    assert out == ("interrupted\n" if number == signal.SIGINT else "")


def test_helm_runs_in_a_session_of_its_own_so_that_ctrl_c_of_a_terminal_does_not_reach_it():
    program = "import os; print(os.getsid(0) == os.getpid())"
    assert run_helm([sys.executable, "-c", program], b"").stdout.decode() == "True\n"


def test_the_chart_of_the_package_is_a_folder():
    assert "name: confcom\n" in (chart_folder() / "Chart.yaml").read_text()

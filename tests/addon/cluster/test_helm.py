"""Helm's command lines and what its answers mean."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.addon.cluster.helm import HELM_SECONDS, BusyError, ChartError, Helm, HelmError, UnfinishedError, Values
from confcom.addon.cluster.kubectl import Cluster, KubeApi
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError, run_program, stderr_summary


@pytest.fixture
def helm():
    """A helm that answers as it is told to; `asked` has its command lines and their input."""

    class Answers:
        def __init__(self):
            self.asked, self.answer = [], (0, "", "")

        def __call__(self, arguments, /, *, stdin=None, timeout=60.0, most=0):
            self.asked.append((list(arguments), stdin))
            self.timeout = timeout
            code, out, err = self.answer
            return subprocess.CompletedProcess(arguments, code, out.encode(), err.encode())

    return Answers()


@pytest.fixture
def release(helm):
    return Helm(Cluster("sgx", "=strange"), helm)


def test_values_are_given_in_the_order_in_which_they_win(helm, release, tmp_path):
    values = Values((tmp_path / "v.yaml",), ("b=2",), ("c=3",), {"a": 1})
    release.upgrade(tmp_path / "chart", values)
    ((line, stdin),) = helm.asked
    flags = [word for word in line if word.startswith(("--values", "--set"))]
    assert flags == ["--values=-", f"--values={tmp_path}/v.yaml", "--set=b=2", "--set-string=c=3"]
    assert json.loads(stdin) == {"a": 1}
    assert {"--install", "--reset-values", "--namespace=sgx", "--kube-context==strange"} <= set(line)


@pytest.mark.parametrize("name", ["a, b.yaml", 'a"b.yaml', '"a",b.yaml', "plain.yaml"])
def test_a_file_of_values_is_one_file_whatever_its_name(helm, release, tmp_path, name):
    release.upgrade(tmp_path, Values((tmp_path / name,)))
    given = [word.partition("=")[2] for word in helm.asked[0][0] if word.startswith("--values=")]
    assert [next(csv.reader([one], strict=True)) for one in given] == [["-"], [str(tmp_path / name)]]


def test_rendering_changes_nothing_and_tells_hooks_apart(helm, release, tmp_path):
    hook = {"manifest": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: root}\n"}
    manifest = "apiVersion: v1\nkind: A\n---\n# nothing\n---\napiVersion: v1\nkind: B\n"
    document = {"manifest": manifest, "hooks": [hook], "config": {"x": 1}}
    helm.answer = (0, json.dumps(document), "")
    rendering = release.render(tmp_path, Values())
    assert "--dry-run=server" in helm.asked[0][0]
    assert [one["kind"] for one in rendering.manifests] == ["A", "B"]
    assert [one["kind"] for one in rendering.hooks] == ["Job"]
    assert rendering.config == {"x": 1}


CHART_REFUSAL = """Error: execution error at (confcom/templates/checks.yaml:1:1):

confcom: nothing was changed, because a is not b.
  why: of c.
  do:  set d:
         --set d=1
       or e
{code}
Use --debug flag to render out invalid YAML
"""


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (CHART_REFUSAL.format(code=""), ChartError, "chart-values-refused"),
        (CHART_REFUSAL.format(code="\n  code: a-is-not-b\n"), ChartError, "a-is-not-b"),
        ("Error: values don't meet the specifications: - at '/x': got boolean", ChartError, "chart-values-refused"),
        ('Error: failed to query: secrets is forbidden: User "eve"', ClusterAccessError, "cluster-request-failed"),
        ("Error: connection refused", ClusterAccessError, "cluster-request-failed"),
        ('Error: UPGRADE FAILED: "confcom" has no deployed releases', UnfinishedError, "removal-interrupted"),
        ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in", BusyError, "other-change"),
        ("Error: INSTALLATION FAILED: release: already exists", BusyError, "other-change"),
        ("Error: INSTALLATION FAILED: cannot reuse a name that is still in use", BusyError, "other-change"),
        ("Error: cannot re-use a name that is still in use", BusyError, "other-change"),
        ("", ClusterAccessError, "cluster-request-failed"),
    ],
)
def test_who_is_to_blame_when_it_cannot_be_rendered(helm, release, said, kind, code):
    helm.answer = (1, "", said)
    with pytest.raises(kind) as caught:
        release.render(Path("chart"), Values())
    assert caught.value.error_code == code
    assert caught.value.why
    if "a is not b" in said:  # the chart's words, without helm's
        assert caught.value.what.endswith(": a is not b")
        assert (caught.value.why, caught.value.remedy) == ("of c", "set d: --set d=1; or e")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("another operation (install/upgrade/rollback) is in progress", "other-change"),
        ("UPGRADE FAILED: pre-upgrade hooks failed", "hook-failed"),
        ("INSTALLATION FAILED: failed pre-install", "hook-failed"),
        ('"confcom" has no deployed releases', "removal-interrupted"),
        ("timed out", "helm-failed"),
    ],
)
def test_what_to_do_when_helm_fails(helm, release, tmp_path, said, code):
    helm.answer = (1, "", f"Error: {said}")
    with pytest.raises(HelmError) as caught:
        release.upgrade(tmp_path, Values())
    assert (caught.value.error_code, caught.value.why) == (code, said)
    assert ("--namespace=sgx" in caught.value.remedy) is ("pre-install" in said or code == "helm-failed")


def test_helms_time_limit(helm, release):
    helm.answer = (0, "[]", "")
    release.history()
    assert helm.timeout > HELM_SECONDS
    Helm(Cluster(), helm, seconds=3.0).history()
    assert helm.timeout == 3.0


def test_no_release_has_no_history(helm, release):
    helm.answer = (1, "", "Error: release: not found")
    assert release.history() == ()
    helm.answer = (1, "", "Error: Kubernetes cluster unreachable")
    with pytest.raises(ClusterAccessError):
        release.history()


def test_the_last_words_of_a_program_are_no_log_lines_and_told_once():
    said = b'level=WARN msg="x"\ntime=2026-11-25 level=ERROR msg="y"\nI1124 10:00:00.0 1 x.go:1] z\nError: in words\n'
    assert stderr_summary(said) == "in words"
    assert stderr_summary(b"it was refused\n" * 3 + b"so it ended\n") == "it was refused so it ended"


@pytest.mark.parametrize(
    ("said", "forbidden"),
    [
        ('Error from server (Forbidden): pods is forbidden: User "eve" cannot list resource "pods"', True),
        ('Error: query: failed to query with labels: secrets is forbidden: User "eve" cannot list', True),
        ('Error: Kubernetes cluster unreachable: forbidden: User "eve" cannot get path "/version"', True),
        ("The connection to the server forbidden.example.com:6443 was refused", False),
    ],
)
def test_to_be_refused_is_another_thing_than_not_to_be_heard(helm, release, said, forbidden):
    helm.answer = (1, "", said)
    for ask in (release.history, lambda: KubeApi(Cluster(), helm).list_objects("pods")):
        with pytest.raises(ClusterAccessError) as caught:
            ask()
        assert isinstance(caught.value, ForbiddenError) is forbidden


def test_what_is_missing_is_asked_by_name_only(helm):
    helm.answer = (0, "serviceaccount/here\nrole.rbac.authorization.k8s.io/elsewhere\n", "")
    here = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "here", "labels": {}}}
    gone = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "here"}, "spec": {}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "elsewhere"}}
    role["metadata"]["namespace"] = "other"
    api = KubeApi(Cluster("sgx"), helm)
    assert api.missing([here, gone, role]) == (gone,)
    ((line, stdin),) = helm.asked
    assert {"--filename=-", "--ignore-not-found", "--output=name"} <= set(line)
    asked = [one["metadata"] for one in json.loads(stdin)["items"]]
    assert asked == [{"name": "here", "namespace": "sgx"}] * 2 + [{"name": "elsewhere", "namespace": "other"}]
    assert api.missing([]) == ()


def test_the_environment_leads_helm_to_no_other_cluster(monkeypatch):
    redirecting = ("HELM_KUBECONTEXT", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_KUBEASUSER", "HELM_NAMESPACE")
    for name in (*redirecting, "HELM_DRIVER", "KUBECONFIG"):
        monkeypatch.setenv(name, "x")
    program = "import os; print(*os.environ)"
    names = run_program([sys.executable, "-c", program]).stdout.decode().split()
    assert not set(names) & set(redirecting)
    assert {"HELM_DRIVER", "KUBECONFIG", "PATH"} <= set(names)

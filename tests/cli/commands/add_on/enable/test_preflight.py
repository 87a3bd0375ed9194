"""A check before `confcom enable` fails: nothing is changed, and its finding has a code, a reason and a remedy."""

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import finding_of, findings_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import default_chart
from testkit.fake_cluster.objects import SYSTEM


def test_all_is_well(confcom):
    assert confcom.findings("enable", "--simulated", "--dry-run") == {
        "helm": ("ok", "helm-supported"),
        "API server": ("ok", "api-server-answers"),
        "Kubernetes version": ("ok", "kubernetes-supported"),
        "chart and values": ("ok", "values-accepted"),
        "permissions": ("ok", "permissions-granted"),
        "installation": ("ok", "not-installed"),
        "Pod Security": ("ok", "namespace-will-be-created"),
        "resource names": ("ok", "resources-free"),
        "simulation": ("ok", "no-hardware-in-cluster"),
        "SGX nodes": ("ok", "nodes-found"),
    }


def test_what_depends_on_a_check_that_failed_is_skipped(confcom, cluster):
    cluster.helm_version = "v2.17.0"
    found = confcom.findings("enable", "--simulated", exit_code=ExitCode.REFUSED)
    assert len(found) == 10
    assert found["helm"] == ("failed", "helm-too-old")
    assert found["SGX nodes"] == ("skipped", "not-checked")


@pytest.mark.parametrize(("program", "check"), [("helm", "helm"), ("kubectl", "API server")])
def test_a_program_is_missing(refused, cluster, program, check):
    cluster.missing = {program}
    refused("--simulated", check=check, code="program-not-found", exit_code=ExitCode.UNAVAILABLE)


@pytest.mark.parametrize("version", ["v2.17.0", "v3.22.0+g0a3b"])
def test_an_old_helm(refused, cluster, version):
    cluster.helm_version = version
    refused("--simulated", check="helm", code="helm-too-old", what=version)
    assert [line for line in cluster.calls if line[0] == "helm"] == [["helm", "version", "--short"]]


@pytest.mark.parametrize("version", ["v4.0.0+g99cd196", "v5.0.1"])
def test_a_new_helm(confcom, cluster, version):
    cluster.helm_version = version
    confcom.ok("enable", "--simulated")


def test_the_api_server_does_not_answer(refused, cluster):
    cluster.away = True
    found = refused("--simulated", check="API server", code="cluster-request-failed", exit_code=ExitCode.UNAVAILABLE)
    assert found["why"] == "The connection to the server 10.0.0.1:6443 was refused"
    assert "kubectl version --output=json --request-timeout=20s" in found["do"]


def test_an_old_kubernetes(refused, cluster):
    cluster.kubernetes = "v1.29.4"
    refused("--simulated", check="Kubernetes version", code="kubernetes-too-old", what="v1.29.4")


@pytest.mark.parametrize("version", ["v1.30.0", "v1.38.0-rc.1"])
def test_a_kubernetes_that_is_not_tried_is_a_warning(confcom, cluster, version):
    cluster.kubernetes = version
    document = confcom.document("enable", "--simulated")
    assert findings_of(document)["Kubernetes version"] == ("warning", "kubernetes-not-tested")
    assert any(version in warning for warning in document["warnings"])


def test_the_chart_refuses_the_values(refused):
    found = refused(check="chart and values", code="aesmd-image-missing", exit_code=ExitCode.USAGE)
    for setting in ("quoteHelper.aesmd.image.repository=", "simulated.enabled=true", "quoteHelper.enabled=false"):
        assert f"--set {setting}" in found["do"]


def test_permissions(refused, cluster):
    cluster.denied = {"create daemonsets", "create validatingadmissionpolicies"}
    policies = "create validatingadmissionpolicies.admissionregistration.k8s.io"
    told = f"{policies}; create daemonsets.apps in {SYSTEM}"
    refused("--simulated", check="permissions", code="permissions-missing", why=told)


def test_who_may_not_read_is_told_what_the_api_server_says(confcom, cluster):
    cluster.denied = {"list secrets", "list nodes", "create daemonsets"}
    document = confcom.document("enable", "--simulated", exit_code=ExitCode.UNAVAILABLE)
    assert findings_of(document)["permissions"] == ("failed", "permissions-missing")
    for check, kind in (("chart and values", "secrets"), ("SGX nodes", "nodes")):
        found = finding_of(document, check)
        assert found["outcome"] == "failed"
        assert f"{kind} is forbidden" in found["why"]


def test_who_may_not_look_up_the_release_is_told_of_all_permissions_at_once(confcom, cluster):
    cluster.denied = {"list secrets", "create daemonsets"}
    found = finding_of(confcom.document("enable", "--simulated", exit_code=ExitCode.UNAVAILABLE), "permissions")
    assert found["code"] == "permissions-missing"
    assert f"list secrets in {SYSTEM}; create daemonsets.apps in {SYSTEM}" in found["why"]


def test_who_may_not_clean_nodes_is_warned(confcom, cluster):
    cluster.denied = {"patch nodes/status"}
    assert confcom.findings("enable", "--simulated")["permissions"] == ("warning", "cleaning-not-permitted")


def running_plugin(namespace):
    directory = {"name": "device-plugins", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}
    made = make.daemon_set("device-plugin", namespace=namespace, volumes=[directory])
    return made | {"status": {"currentNumberScheduled": 1}}


@pytest.mark.parametrize(("volumes", "scheduled"), [(False, 1), (True, 0)])
def test_labels_alone_are_no_installation(confcom, cluster, volumes, scheduled):
    """A tenant may write a DaemonSet with these labels; its Pods may not mount that directory."""
    written = running_plugin("team-a")
    written["status"]["currentNumberScheduled"] = scheduled
    if not volumes:
        del written["spec"]["template"]["spec"]["volumes"]
    cluster.objects.append(written)
    document = confcom.document("enable", "--simulated")
    found = [one for one in document["findings"] if one["check"] == "installation"]
    assert [(one["outcome"], one["code"]) for one in found] == [
        ("warning", "labels-of-the-add-on"),
        ("ok", "not-installed"),
    ]


def test_another_installation(refused, cluster):
    cluster.objects.append(running_plugin("sgx"))
    remedy = "helm uninstall confcom --namespace sgx"
    refused("--simulated", check="installation", code="installed-elsewhere", what="namespace sgx", do=remedy)


@pytest.mark.parametrize(
    "needed",
    [
        *(
            "list events",
            "list controllerrevisions",
            "list deployments",
            "get daemonsets",
            "watch jobs",
            "list roles",
            "get secrets",
        ),
        *("create configmaps", "watch validatingadmissionpolicies"),
    ],
)
def test_what_the_wait_and_helm_need_is_asked_too(refused, cluster, needed):
    hook = make.failed_hook("confcom-simulated-root-1", "", "")
    hook["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    role = hook | {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    cluster.chart = lambda values: [*default_chart(values), hook, role]
    cluster.denied = {needed}
    refused("--simulated", check="permissions", code="permissions-missing", why=f": {needed}")


def test_an_update_is_checked_too(confcom, enabled):
    enabled.denied = {"patch daemonsets"}
    document = confcom.document("update", "--set", "logLevel=debug", exit_code=ExitCode.REFUSED)
    found = finding_of(document, "permissions")
    assert (found["outcome"], found["code"]) == ("failed", "permissions-missing")
    assert "patch daemonsets.apps" in found["why"]
    assert len(enabled.revisions) == 1

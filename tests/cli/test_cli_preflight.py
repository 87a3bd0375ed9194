"""What a person sees when a check before `confcom enable` fails: nothing is changed, and it says why and what to do."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import default_chart

NO_CONSENT = "simulated.enabled is false, and quoteHelper.enabled is true"
SIMULATED_ONLY = "why: this version makes quotes by a simulated platform only, and simulation is never on by itself"
DECIDE = (
    "do:  if quotes that prove nothing about hardware are what you want (development, CI), add "
    "--set simulated.enabled=true; if the device plugin alone, on nodes with SGX hardware, is what you want, add "
    "--set quoteHelper.enabled=false"
)
DENIED = (
    "why: not allowed: create validatingadmissionpolicies.admissionregistration.k8s.io; "
    "create daemonsets.apps in confcom-system"
)


def test_all_is_well(confcom):
    done = confcom("enable", "--simulated", "--dry-run")
    assert done.exit_code == ExitCode.OK
    checked = [line.split()[0] for line in done.stderr.splitlines()[1:11]]
    assert checked == ["ok"] * 10


def test_findings_are_data_beside_the_result_and_beside_the_error(confcom, cluster):
    done = confcom("enable", "--simulated", "--dry-run", "-o", "json")
    found = {one["check"]: (one["outcome"], one["code"]) for one in json.loads(done.stdout)["findings"]}
    assert len(found) == 10
    assert found["SGX nodes"] == ("ok", "nodes-found")
    cluster.helm_version = "v2.17.0"
    document = json.loads(confcom("enable", "--simulated", "-o", "json").stdout)
    assert document["error"]["code"] == "preflight-failed"
    found = {one["check"]: (one["outcome"], one["code"]) for one in document["findings"]}
    assert found["helm"] == ("failed", "helm-not-supported")
    assert found["SGX nodes"] == ("skipped", "not-checked")


def test_no_helm(refused, cluster):
    cluster.missing = {"helm"}
    assert refused("--simulated", code=ExitCode.UNAVAILABLE) == [
        "FAILED   helm                the chart cannot be installed",
        "why: there is no helm on PATH",
        "do:  install helm; https://helm.sh/docs/intro/install/",
    ]


def test_an_old_helm(refused, cluster):
    cluster.helm_version = "v2.17.0"
    assert refused("--simulated") == [
        "FAILED   helm                helm v2.17.0 is not supported",
        "why: the chart is tried with helm 4 and 3",
        "do:  install helm 4",
    ]


@pytest.mark.parametrize("version", ["v3.12.3+g3a31588", "v3.2.4"])
def test_a_helm_3_without_dry_runs_on_the_server(refused, cluster, version):
    cluster.helm_version = version
    assert refused("--simulated") == [
        f"FAILED   helm                helm {version} is too old",
        "why: --dry-run=server, by which the chart is checked before anything is changed, came with helm 3.13",
        "do:  install helm 4, or 3.13 or newer of helm 3",
    ]
    assert [line for line in cluster.calls if line[0] == "helm"] == [["helm", "version", "--short"]]


@pytest.mark.parametrize("version", ["v3.13.0+g825e86f", "v3.22.0+g0a3b"])
def test_helm_3_is_accepted(confcom, cluster, version):
    cluster.helm_version = version
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_no_kubectl(refused, cluster):
    cluster.missing = {"kubectl"}
    assert refused("--simulated", code=ExitCode.UNAVAILABLE)[1] == "why: there is no kubectl on PATH"


def test_the_api_server_does_not_answer(refused, cluster):
    cluster.away = True
    assert refused("--simulated", code=ExitCode.UNAVAILABLE) == [
        "FAILED   API server          the API server cannot be reached",
        "why: The connection to the server 10.0.0.1:6443 was refused",
        "do:  try by hand: kubectl version --output=json --request-timeout=20s",
    ]


def test_an_old_kubernetes(refused, cluster):
    cluster.kubernetes = "v1.29.4"
    assert refused("--simulated") == [
        "FAILED   Kubernetes version  Kubernetes v1.29.4 is too old",
        "why: ValidatingAdmissionPolicy is served from 1.30 on",
        "do:  upgrade the cluster; 1.34 to 1.37 are tried",
    ]


@pytest.mark.parametrize("version", ["v1.30.0", "v1.38.0-rc.1"])
def test_a_kubernetes_that_is_not_tried_is_a_warning(confcom, cluster, version):
    cluster.kubernetes = version
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert f"warning  Kubernetes version  {version} is not tried" in done.stderr


def test_the_chart_refuses_the_values(refused):
    assert refused(code=ExitCode.USAGE) == [
        f"FAILED   chart and values    the chart refuses these values: {NO_CONSENT}",
        SIMULATED_ONLY,
        DECIDE,
    ]


def test_permissions(refused, cluster):
    cluster.denied = {"create daemonsets", "create validatingadmissionpolicies"}
    assert refused("--simulated") == [
        "FAILED   permissions         this user may not do everything that is needed",
        DENIED,
        "do:  ask a cluster administrator for these permissions, or to run this command",
    ]


def test_who_may_not_read_is_told_what_the_api_server_says(refused, cluster):
    cluster.denied = {"list secrets", "list nodes", "create daemonsets"}
    assert "secrets is forbidden" in refused("--simulated", code=ExitCode.UNAVAILABLE)[1]


def test_who_may_not_look_up_the_release_is_told_of_all_permissions_at_once(confcom, cluster):
    cluster.denied = {"list secrets", "create daemonsets"}
    missing = "list secrets in confcom-system; create daemonsets.apps in confcom-system"
    assert missing in confcom("enable", "--simulated").stderr


def test_who_may_not_clean_nodes_is_warned(confcom, cluster):
    cluster.denied = {"patch nodes/status"}
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert "warning  permissions         this user could not disable the add-on without leftovers" in done.stderr


def test_another_installation(refused, cluster):
    cluster.objects.append(make.daemon_set("device-plugin", namespace="sgx"))
    assert refused("--simulated") == [
        "FAILED   installation        the add-on is installed in the namespace sgx already, as the release confcom",
        "why: two of them would offer the same EPC twice, and take it from the nodes when either ends",
        "do:  use that one (--namespace sgx), or remove it first: helm uninstall confcom --namespace sgx",
    ]


@pytest.mark.parametrize(
    "needed",
    [
        *("list events", "list controllerrevisions", "get daemonsets", "watch jobs", "list roles", "get secrets"),
        *("create configmaps", "watch validatingadmissionpolicies"),
    ],
)
def test_what_the_wait_and_helm_need_is_asked_too(refused, cluster, needed):
    hook = make.failed_hook("confcom-simulated-root-1", "", "")
    hook["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    role = hook | {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    cluster.chart = lambda values: [*default_chart(values), hook, role]
    cluster.denied = {needed}
    assert f"not allowed: {needed}" in refused("--simulated")[1]


def test_an_update_is_checked_too(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.denied = {"patch daemonsets"}
    done = confcom("update", "--set", "logLevel=debug")
    assert done.exit_code == ExitCode.REFUSED
    assert "not allowed: patch daemonsets.apps" in done.stderr
    assert len(cluster.revisions) == 1

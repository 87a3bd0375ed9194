"""The controller: when there is one, what it may do, and on which nodes."""

import re

import pytest

from confcom.controller.settings import parse_settings
from e2e.add_on import SYSTEM
from e2e.leftovers import INSTALLED
from testkit.chart_manifests import PLUGIN, only_container, pod_of

ON = "admission.mutate=on"
SIMULATED = "simulated.enabled=true"
BESIDE = "simulated.enabled=true,simulated.besideHardware=true,quoteHelper.enabled=false"
REAL, OTHER = "kubernetes.azure.com/sgx_epc_mem_in_MiB", "simulated.confcom.internal/sgx_epc_mem_in_MiB"
NAME = "confcom-controller"
AMOUNTS = "controller.maxEpcMiBPerNode=77"


def policy(manifests):
    return manifests["ValidatingAdmissionPolicy", NAME]["spec"]


def chosen(manifests):
    return next(one["expression"] for one in policy(manifests)["variables"] if one["name"] == "chosen")


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ((SIMULATED, ON), True),
        ((SIMULATED,), False),
        ((SIMULATED, "admission.mutate=off"), False),
        ((SIMULATED, ON, "controller.enabled=false"), False),
    ],
)
def test_there_is_one_where_pods_get_the_enclave_device_by_a_policy(plain_render, settings, there):
    kinds = {kind for kind, name in plain_render(*settings) if name.startswith(NAME)}
    everything = {"Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    everything |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert kinds == (everything if there else set())


def test_its_arguments_are_those_of_the_program_and_agree_with_the_plugins(plain_render):
    manifests = plain_render(BESIDE, ON, AMOUNTS, "controller.goneSeconds=8")
    arguments = only_container(pod_of(manifests["Deployment", NAME]))["args"]
    settings = parse_settings(arguments, prog="", environ={})
    assert settings.rules.resources == (OTHER, REAL)
    assert (settings.rules.maximum_mib, settings.rules.gone_seconds) == (77, 8)
    plugins = [manifests["DaemonSet", f"{PLUGIN}{suffix}"] for suffix in ("", "-simulated")]
    offered = [argument for one in plugins for argument in only_container(pod_of(one))["args"]]
    assert {f"--epc-resource={name}" for name in settings.rules.resources} <= set(offered)
    installation = f"--installation={settings.release.namespace}/{settings.release.name}"
    assert installation in offered
    for one in plugins:
        labels = one["spec"]["template"]["metadata"]["labels"] | {"namespace": settings.release.namespace}
        pod = {"metadata": {"labels": labels, "namespace": settings.release.namespace}}
        pod["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "controller": True}]
        assert settings.release.has_plugin(pod)


def test_its_account_has_no_right_that_it_does_not_use(plain_render):
    manifests = plain_render(SIMULATED, ON)
    rules = [*manifests["ClusterRole", NAME]["rules"], *manifests["Role", f"{NAME}-events"]["rules"]]
    rights = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert rights == {
        *(("get", "nodes"), ("list", "nodes"), ("watch", "nodes"), ("patch", "nodes/status")),
        *(("list", "pods"), ("watch", "pods"), ("create", "events")),
    }
    assert manifests["Role", f"{NAME}-events"]["metadata"]["namespace"] == "default"
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        binding = next(one for (found, name), one in manifests.items() if found == kind and name.startswith(NAME))
        namespace = manifests["Deployment", NAME]["metadata"]["namespace"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]


def test_the_policy_is_about_this_account_and_cannot_fail_open(plain_render):
    manifests = plain_render(SIMULATED, ON, AMOUNTS)
    spec = policy(manifests)
    namespace = manifests["Deployment", NAME]["metadata"]["namespace"]
    (condition,) = spec["matchConditions"]
    assert f'"system:serviceaccount:{namespace}:{NAME}"' in condition["expression"]
    assert spec["failurePolicy"] == "Fail"
    assert manifests["ValidatingAdmissionPolicyBinding", NAME]["spec"] == {
        "policyName": NAME,
        "validationActions": ["Deny"],
    }
    text = " ".join(one["expression"] for one in spec["validations"])
    assert len(re.findall(r"<= 77\b", text)) == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((SIMULATED,), "(variables.labels[?'confcom.internal/simulated-sgx'].orValue('') == 'true')"),
        (
            (BESIDE, "simulated.nodeSelector.a=b"),
            (
                "(variables.labels[?'a'].orValue('') == 'b' && "
                "variables.labels[?'confcom.internal/simulated-sgx'].orValue('') == 'true') || "
                "(variables.labels[?'feature.node.kubernetes.io/cpu-security.sgx.enabled'].orValue('') == 'true')"
            ),
        ),
    ],
)
def test_the_policy_knows_the_nodes_by_the_values(plain_render, settings, expected):
    assert chosen(plain_render(*settings, ON)) == expected


def test_the_policy_knows_terms_of_nodes(plain_render):
    term = "nodeSelectorTerms[0].matchExpressions"
    manifests = plain_render(
        "quoteHelper.enabled=false",
        ON,
        f"{term}[0].key=size,{term}[0].operator=In,{term}[0].values={{large,huge}}",
        f"{term}[1].key=off,{term}[1].operator=DoesNotExist",
    )
    found = chosen(manifests)
    assert "variables.labels['size'] in ['large', 'huge']" in found
    assert "!('off' in variables.labels)" in found


def test_the_network_policies_let_it_ask_the_plugins_and_the_api_server(plain_render):
    manifests = plain_render(
        SIMULATED, ON, "networkPolicy.enabled=true", "networkPolicy.from[0].podSelector.matchLabels.a=b"
    )
    ours = manifests["NetworkPolicy", NAME]["spec"]
    labels = manifests["Deployment", NAME]["spec"]["template"]["metadata"]["labels"]
    assert ours["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["port"] for rule in ours["egress"] for port in rule["ports"]}
    assert ports == {"probes", 443, 6443}
    peers = manifests["NetworkPolicy", "confcom"]["spec"]["ingress"][0]["from"]
    assert {"podSelector": ours["podSelector"]} in peers
    daemons = manifests["NetworkPolicy", "confcom"]["spec"]["podSelector"]
    assert any(rule.get("to") == [{"podSelector": daemons}] for rule in ours["egress"])


def test_too_little_memory_is_refused(plain_template, refused):
    def limited_to(mib):
        settings = (SIMULATED, ON, f"controller.resources.limits.memory={mib}Mi")
        return plain_template(more=[word for one in settings for word in ("--set", one)])

    assert limited_to(128).returncode == 0
    done = limited_to(127)
    assert refused(done) == "memory-limit-too-small"
    assert "controller.resources.limits.memory is 127Mi" in done.stderr


def test_its_image_and_its_rights_on_its_node_are_those_of_the_daemons(plain_render):
    manifests = plain_render(SIMULATED, ON, "controller.image.digest=sha256:" + "0" * 64)
    pod = pod_of(manifests["Deployment", NAME])
    assert only_container(pod)["image"].endswith("/confcom/controller@sha256:" + "0" * 64)
    assert only_container(pod)["securityContext"]["runAsNonRoot"] is True
    assert only_container(pod)["securityContext"]["readOnlyRootFilesystem"] is True
    assert "volumes" not in pod


def test_cases_on_the_cluster_know_what_an_installation_leaves_to_the_next_one(render):
    kinds = {
        "ClusterRole",
        "ClusterRoleBinding",
        *(f"{k}AdmissionPolicy{p}" for k in ("Mutating", "Validating") for p in ("", "Binding")),
    }
    made = {
        f"{kind} {name}".replace(".sgx", f".{SYSTEM}")
        for (kind, name), one in render("admission.mutate=on").items()
        if kind in kinds and "helm.sh/hook" not in one["metadata"].get("annotations", {})
    }
    assert made == INSTALLED - {f"Namespace {SYSTEM}"}

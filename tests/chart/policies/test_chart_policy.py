"""Who may ask for what, who may reach what, who may scrape what. How the API server takes it is seen in e2e."""

import re

import pytest
import yaml

from confcom.addon.model.chart_objects import POLICY_ANNOTATION
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind
from testkit.chart_manifests import (
    AESMD,
    HELPER,
    JOB_ACCOUNT,
    PLUGIN,
    POLICY,
    ROOT_HOOK_POLICY,
    ROOT_POLICY,
    daemon,
    only_container,
)

BESIDE = "simulated.besideHardware=true"
PROVISION, HELPER_EPC = DEFAULT_NAMES[ResourceKind.PROVISION], DEFAULT_NAMES[ResourceKind.HELPER]
LONGEST_MESSAGE = 5 * 1024
"""Bytes; a longer one, or one with a line break, is replaced by a message that says nothing."""


@pytest.fixture(scope="module")
def policy(render):
    return render("provision.namespaces[0]=trusted", "provision.namespaces[1]=other")[
        "ValidatingAdmissionPolicy", POLICY
    ]


def test_the_policy_denies_and_fails_closed(policy, render):
    assert policy["spec"]["failurePolicy"] == "Fail"
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["resources"], rule["operations"], rule["apiGroups"]) == (["pods"], ["CREATE"], [""])
    binding = render()["ValidatingAdmissionPolicyBinding", POLICY]["spec"]
    assert binding == {"policyName": POLICY, "validationActions": ["Deny"]}


def test_init_containers_count_and_a_limit_of_nothing_asks_for_nothing(policy):
    guarded = {one["name"]: one["expression"] for one in policy["spec"]["variables"]}
    assert "object.spec.initContainers" in guarded["limited"]
    asked = "name in c.resources.limits && quantity(c.resources.limits[name]).isGreaterThan(quantity('0'))"
    assert all(asked in guarded[name] for name in ("provision", "helperEpc"))


def test_namespaces(policy):
    provision, helper = (one["expression"] for one in policy["spec"]["validations"])
    assert 'request.namespace in ["sgx","trusted","other"]' in provision
    assert 'request.namespace == "sgx"' in helper


def test_messages_name_resource_value_and_release(policy):
    provision, helper = (one["messageExpression"] for one in policy["spec"]["validations"])
    assert "provision.namespaces of the Helm release confcom in sgx" in provision
    assert PROVISION in provision
    assert HELPER_EPC in helper
    assert DEFAULT_NAMES[ResourceKind.EPC] in helper
    assert all(len(message) < LONGEST_MESSAGE and "\n" not in message for message in (provision, helper))


@pytest.mark.parametrize(("settings", "platforms"), [((), 1), ((BESIDE,), 2)])
def test_every_plugins_names_are_guarded(render, settings, platforms):
    manifests = render(*settings)
    guarded = " ".join(one["expression"] for one in manifests["ValidatingAdmissionPolicy", POLICY]["spec"]["variables"])
    plugins = [name for kind, name in manifests if kind == "DaemonSet" and name.startswith(PLUGIN)]
    assert len(plugins) == platforms
    for name in plugins:
        arguments = " ".join(only_container(daemon(manifests, name))["args"])
        for kind in ("provision", "helper"):
            resource = re.search(rf"--{kind}-resource=(\S+)", arguments)[1]
            assert f'"{resource}"' in guarded


def test_no_policy(render):
    settings = ("provision.policy=false", "simulated.rootPolicy=false")
    others = ("admission.validate=false", "admission.warn=false")
    assert not any("Admission" in kind for kind, _ in render(*settings, *others))
    for one, left in zip(settings, ([ROOT_HOOK_POLICY, ROOT_POLICY], [POLICY]), strict=True):
        assert sorted(name for kind, name in render(one, *others) if kind == "ValidatingAdmissionPolicy") == left


def test_the_policies_of_the_root_are_one_and_are_about_its_maker_and_one_of_them_stays(render):
    manifests = render()
    policies = {name: one for (kind, name), one in manifests.items() if kind == "ValidatingAdmissionPolicy"}
    hooks = [name for name, one in policies.items() if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    assert hooks == [ROOT_HOOK_POLICY]
    spec = policies[ROOT_POLICY]["spec"]
    assert policies[ROOT_HOOK_POLICY]["spec"] == spec
    assert spec["failurePolicy"] == "Fail"
    (condition,) = spec["matchConditions"]
    (subject,) = manifests["RoleBinding", JOB_ACCOUNT]["subjects"]
    user = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    assert condition["expression"] == f'request.userInfo.username == "{user}"'
    (rule,) = spec["matchConstraints"]["resourceRules"]
    unnamed = [one for one in manifests["Role", JOB_ACCOUNT]["rules"] if "resourceNames" not in one]
    assert [(one["resources"], one["verbs"]) for one in unnamed] == [(rule["resources"], ["create"])]
    assert rule["operations"] == ["CREATE"]
    for name in (ROOT_POLICY, ROOT_HOOK_POLICY):
        binding = manifests["ValidatingAdmissionPolicyBinding", name]["spec"]
        assert binding == {"policyName": name, "validationActions": ["Deny"]}


def test_the_network_policy_is_about_the_daemons_and_their_port(render, values_file):
    assert not any(kind == "NetworkPolicy" for kind, _ in render())
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    manifests = render(values=values_file({"networkPolicy": {"enabled": True, "from": [scraper]}}))
    spec = manifests["NetworkPolicy", "confcom"]["spec"]
    assert (spec["egress"], set(spec["policyTypes"])) == ([], {"Ingress", "Egress"})
    (rule,) = spec["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": "probes"}], "from": [scraper]}
    chosen = spec["podSelector"]
    selected = []
    for (kind, name), manifest in manifests.items():
        if kind in {"DaemonSet", "Job"}:
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            present = all(one["key"] in labels for one in chosen["matchExpressions"])
            if present and chosen["matchLabels"].items() <= labels.items():
                selected.append(name)
    # Not the Job: it talks to the API server.
    assert sorted(selected) == [PLUGIN, HELPER]


def test_an_open_network_policy_names_nobody(render):
    (rule,) = render("networkPolicy.enabled=true")["NetworkPolicy", "confcom"]["spec"]["ingress"]
    assert "from" not in rule


@pytest.mark.parametrize("settings", [(), (BESIDE,), (BESIDE, AESMD), ("quoteHelper.enabled=false",)])
def test_the_service_monitor_finds_every_daemon(render, settings):
    assert not any(kind in {"ServiceMonitor", "Service"} for kind, _ in render(*settings))
    manifests = render(*settings, "serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus")
    monitor = manifests["ServiceMonitor", "confcom"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "30s")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = {name: one for (kind, name), one in manifests.items() if kind == "Service"}
    daemons = {name: one for (kind, name), one in manifests.items() if kind == "DaemonSet"}
    assert services.keys() == daemons.keys()
    for name, service in services.items():
        assert wanted <= service["metadata"]["labels"].items()
        assert [port["name"] for port in service["spec"]["ports"]] == [endpoint["port"]]
        assert service["spec"]["selector"] == daemons[name]["spec"]["selector"]["matchLabels"]
        (port,) = only_container(daemon(manifests, name))["ports"]
        assert service["spec"]["ports"][0]["targetPort"] == port["name"]


@pytest.mark.parametrize("label", ["app.kubernetes.io/version", "helm.sh/chart", "team"])
def test_a_label_of_the_users_is_there_once_and_wins(template, label):
    done = template("serviceMonitor.enabled=true", f"serviceMonitor.labels.{label.replace('.', chr(92) + '.')}=mine")
    (monitor,) = [one for one in done.stdout.split("\n---\n") if "kind: ServiceMonitor" in one]
    metadata = monitor.partition("\nspec:")[0]
    assert metadata.count(f"{label}:") == 1
    labels = yaml.safe_load(monitor)["metadata"]["labels"]
    assert labels[label] == "mine"
    assert labels["app.kubernetes.io/name"] == "confcom"


@pytest.mark.parametrize("settings", [(), (BESIDE,)])
def test_the_device_plugin_names_the_policy_that_is_installed_with_it(render, settings):
    for setting, told in (("provision.policy=true", {POLICY_ANNOTATION: POLICY}), ("provision.policy=false", None)):
        manifests = render(*settings, setting)
        assert (("ValidatingAdmissionPolicyBinding", POLICY) in manifests) is bool(told)
        plugins = [one for (kind, name), one in manifests.items() if kind == "DaemonSet" and PLUGIN in name]
        assert [one["metadata"].get("annotations") for one in plugins] == [told] * (len(settings) + 1)

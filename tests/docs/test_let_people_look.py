"""The permissions in docs/how-to/let-people-look.md are those of the calls that `confcom status` makes, no others."""

import json
import re
from dataclasses import dataclass

import pytest
import yaml

from confcom.addon.preflight.permissions import is_cluster_wide, plural
from confcom.addon.workloads.refused_pods import API_VERSIONS
from confcom.errors import ExitCode
from testkit.cli_output import run_confcom
from testkit.documentation import blocks
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import chart_of_1_36
from testkit.fake_cluster.cluster import FakeCluster
from testkit.fake_cluster.objects import SYSTEM

PAGE = "docs/how-to/let-people-look.md"
TENANT = "team-a"
"""What is asked for there is asked for in any namespace."""
REFUSED = "exceeded quota: sgx, requested: requests.kubernetes.azure.com/sgx_epc_mem_in_MiB=3"
PAGE_OF_A_LIST = re.compile(r"--raw=/api/v1/(?P<resource>[a-z]+)\?limit=.*")
PROXY = re.compile("--raw=/api/v1/namespaces/(?P<namespace>[^/]+)/pods/[^/]+/proxy/metrics")


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that a call asks for; a name where it asks for one object by name."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""


def uses(arguments, stdin):
    """What the API server is asked by one program."""
    program, verb, *rest = arguments
    flags = dict(word.lstrip("-").partition("=")[::2] for word in rest if word.startswith("-"))
    words = [word for word in rest if not word.startswith("-")]
    here = flags.get("namespace", "")
    if program == "helm":  # its record
        return {Use(verb, "", "secrets", here) for verb in ("get", "list")} if verb != "version" else set()
    if verb == "config":
        return set()
    if verb == "logs":
        return {Use("get", "", resource, here) for resource in ("pods", "pods/log")}
    assert verb == "get", arguments
    found = set()
    if proxied := PROXY.fullmatch(rest[0]):
        return {Use("get", "", "pods/proxy", proxied["namespace"])}
    if page := PAGE_OF_A_LIST.fullmatch(rest[0]):
        return {Use("list", "", page["resource"], "")}
    if "filename" in flags:
        words, found = [], {of_object(one) for one in json.loads(stdin)["items"]}
    for kind in words[0].split(",") if words else ():
        resource, _, group = kind.partition(".")
        resource = resource if resource.endswith("s") else plural(resource)
        if len(words) > 1:
            found.add(Use("get", group, resource, here, words[1]))
        else:
            assert here or "all-namespaces" in flags or group == "admissionregistration.k8s.io", arguments
            found.add(Use("list", group, resource, here))
    return found


def of_object(thing):
    group = thing["apiVersion"].rpartition("/")[0]
    namespace = "" if is_cluster_wide(thing["kind"]) else thing["metadata"]["namespace"].replace(TENANT, "")
    return Use("get", group, plural(thing["kind"]), namespace)


def granted(block):
    """What a block of manifests grants; bindings bind all roles to one group."""
    documents = list(yaml.safe_load_all(block))
    roles = [one for one in documents if one["kind"] in {"ClusterRole", "Role"}]
    bindings = [one for one in documents if one["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    assert [(one["roleRef"]["kind"], one["roleRef"]["name"]) for one in bindings] == [
        (one["kind"], one["metadata"]["name"]) for one in roles
    ]
    assert {subject["name"] for one in bindings for subject in one["subjects"]} == {"confcom-viewers"}
    return {
        Use(verb, group, resource, role["metadata"].get("namespace", ""), name)
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


@pytest.fixture
def cluster():
    """One where `status` has reason for each look: all kinds of the chart, an older root, a failing daemon, no Pods."""
    found = FakeCluster(objects=[make.node("a", make.SIMULATED)], chart=chart_of_1_36)
    more = ["networkPolicy.enabled=true", "serviceMonitor.enabled=true", "image.registry=registry.test"]
    done = run_confcom(found, ["enable", "--simulated", *(f"--set={one}" for one in more)])
    assert done.exit_code == ExitCode.OK, done.output
    found.objects += [make.failed_create(kind, "refused", REFUSED, namespace=TENANT) for kind in API_VERSIONS]
    found.find("ConfigMap")[0]["metadata"]["creationTimestamp"] = "2027-01-01T00:00:00Z"
    plugin, helper = found.daemon("device-plugin"), found.daemon("quote-helper")
    plugin["status"] = make.not_ready() | {"containerStatuses": helper["status"]["containerStatuses"]}
    return found


def used(cluster):
    run, found = cluster.run, set()

    def recorded(arguments, /, *, stdin=None, **more):
        found.update(uses(arguments, stdin))
        return run(arguments, stdin=stdin, **more)

    cluster.run = recorded
    done = run_confcom(cluster, ["status"])
    cluster.run = run
    assert done.exit_code == ExitCode.NOT_READY
    return found, done


def test_status_uses_what_is_granted_and_no_more(cluster):
    found, _ = used(cluster)
    plain, record = map(granted, blocks(PAGE, "yaml"))
    assert found == plain | record


def test_without_helms_record_status_reads_no_secret(cluster):
    cluster.denied = {"list secrets"}
    found, done = used(cluster)
    (plain, _) = map(granted, blocks(PAGE, "yaml"))
    assert found - plain == {Use(verb, "", "secrets", SYSTEM) for verb in ("get", "list")}  # which is refused
    assert not plain - found
    assert not [one for one in plain if one.resource == "secrets"]
    assert "Not compared" in done.stdout

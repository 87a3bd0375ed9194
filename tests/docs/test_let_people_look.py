"""The permissions in docs/how-to/let-people-look.md match the requests that `confcom status` makes."""

import re
from typing import NamedTuple

import pytest
import yaml

from confcom.addon.helm import Helm, Values, chart_folder
from confcom.addon.preflight import Need, permissions_needed
from confcom.addon.snapshot import read_cluster
from testkit import cluster_objects as make
from testkit.cluster_objects import SYSTEM
from testkit.documentation import blocks, text_of
from testkit.fake_api import FakeApi, cluster_of
from testkit.fake_helm import FakeHelm, golden_manifests
from tests.tcb.conftest import Pages

PAGE = "docs/how-to/let-people-look.md"
VALUES = ("simulated", "placement", "aks")
"""Value sets whose renders together have all kinds of objects in the chart."""
TENANT = "team-a"
REFUSED = "exceeded quota: sgx, requested: requests.kubernetes.azure.com/sgx_epc_mem_in_MiB=3"
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[^/]+)(?P<name>/[^/]+)?"
    r"(?:/(?P<sub>log|proxy))?"
)
HELMS_RECORD = {("list", "", "secrets", SYSTEM), ("get", "", "secrets", SYSTEM)}


class Use(NamedTuple):
    """A permission that a request needs. An empty `namespace` means all namespaces, tenants' included."""

    verb: str
    group: str
    resource: str
    namespace: str


def used(method, path):
    found = PATH.match(path).groupdict(default="")
    verb = "patch" if method == "PATCH" else "get" if found["name"] else "list"
    resource = "/".join(filter(None, (found["resource"], found["sub"])))
    return Use(verb, found["group"], resource, found["namespace"].replace(TENANT, ""))


def granted(block):
    """The permissions that a page's manifests grant; the bindings must bind every role to the same group."""
    documents = list(yaml.safe_load_all(block))
    roles = [one for one in documents if one["kind"] in {"ClusterRole", "Role"}]
    bindings = [one for one in documents if one["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    assert [(one["roleRef"]["kind"], one["roleRef"]["name"]) for one in bindings] == [
        (one["kind"], one["metadata"]["name"]) for one in roles
    ]
    assert {subject["name"] for one in bindings for subject in one["subjects"]} == {"confcom-viewers"}
    return {
        Use(verb, group, resource, role["metadata"].get("namespace", ""))
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.fixture(scope="module")
def uses():
    """Permissions that requests of `status` need, also in clusters with failing daemons and refused Pods."""
    found = set(map(Use._make, HELMS_RECORD))
    for values in VALUES:
        nodes = (make.node("s", make.SIMULATED), make.node("h", make.HARDWARE))
        memory = FakeApi([*nodes, make.failed_create("Job", "refused", REFUSED, namespace=TENANT), make.root_secret()])
        helm = Helm(cluster_of(memory), FakeHelm(memory, golden_manifests(values, SYSTEM)))
        helm.upgrade(chart_folder(), Values())
        memory.put(make.daemon("quote-helper", "s", revision="x", status=make.not_ready("quote-helper")))
        memory.requests.clear()
        read_cluster(helm, helm.run.now)
        found |= {used(*one) for one in memory.requests}
    return found


def test_status_needs_what_is_granted_and_no_more(uses):
    plain, record = map(granted, blocks(PAGE, "yaml"))
    assert {one for one in uses if one.verb != "patch"} == plain | record
    assert not [one for one in plain if one.resource == "secrets"]


def test_tcb_needs_no_more_than_status_and_the_root():
    cluster = Pages("a")
    cluster.judged()
    asked = {used(*one) for one in cluster.api.requests if one[0] == "GET"}
    plain, _ = map(granted, blocks(PAGE, "yaml"))
    everywhere = plain | {one._replace(namespace=SYSTEM) for one in plain}
    assert asked - everywhere == {Use("get", "", "secrets", SYSTEM)}


def test_only_changed_fields_need_more_and_only_to_patch_what_may_be_read(uses):
    _, record = map(granted, blocks(PAGE, "yaml"))
    read = {one for one in record if one.resource != "secrets"}
    assert {one for one in uses if one.verb == "patch"} == {one._replace(verb="patch") for one in read}


def test_the_page_names_what_a_change_needs():
    table = text_of(PAGE).partition("## What a change needs")[2]
    needs = (Need.CHANGE, Need.DISABLE, Need.NEW_NAMESPACE, Need.NODE_LABELS)
    for one in permissions_needed(needs, (), SYSTEM):
        name = f"{one.resource}.{one.group}".removesuffix(".")
        row = [line for line in table.splitlines() if f"`{name}`" in line and one.verb in line]
        assert row, f"{one.verb} {name}"

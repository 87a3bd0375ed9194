"""Enabling, updating and rolling back, on a cluster and with a helm in memory."""

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from confcom.addon.change_lease import LEASE_NAME, ChangeRunningError, change_lease
from confcom.addon.cluster import Api, Cluster, Login
from confcom.addon.helm import Helm, HelmError, Revision, Values
from confcom.addon.install import (
    AddOn,
    ChangeInterruptedError,
    NoRevisionError,
    NotEnabledError,
    enable,
    previous,
    roll_back,
    update,
)
from confcom.addon.preflight import PreflightError
from confcom.addon.preflight_inputs import InstallRequest
from confcom.addon.waiting import NotReadyError
from testkit.cluster_objects import EPC, writes_of
from testkit.memory_api import MemoryApi
from testkit.memory_helm import MemoryHelm, golden_manifests

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "confcom-simulated-root"


class Display:
    def __init__(self):
        self.lines, self.reported = [], []

    def say(self, line):
        self.lines.append(line)

    def findings(self, findings):
        self.reported.append(findings)

    @contextlib.contextmanager
    def busy(self, title):
        self.lines.append(title)
        yield

    @contextlib.contextmanager
    def waiting(self, title):
        yield self

    def show(self, rows, *, note=""):
        self.rows = rows


class World:
    """A cluster with one labelled node, and helm with the chart's objects."""

    def __init__(self):
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        node = {"name": "worker-1", "labels": {"confcom.internal/simulated-sgx": "true"}}
        self.server = MemoryApi([{"kind": "Node", "metadata": node, "status": ready}])
        self.helm = MemoryHelm(self.server, self._render)
        self.seconds, self.display = 0.0, Display()
        self.helm.now = self.now

    def _render(self, values):
        manifests = golden_manifests("simulated", "sgx")
        for one in manifests:
            if one["kind"] == "DaemonSet":
                one["metadata"]["labels"]["level"] = one["spec"]["template"]["spec"]["level"] = values.get("level", "a")
        return manifests

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def sleep(self, seconds):
        self.seconds += seconds

    @property
    def add_on(self):
        cluster = Cluster("sgx", Login(), "test", "https://test", Api(self.server))
        return AddOn(cluster, Helm(cluster, self.helm), self.display, lambda: self.seconds, self.sleep, self.now)

    def enable(self, *settings, dry_run=False, wait=True, **request):
        return self._change(enable, settings, dry_run=dry_run, wait=wait, **request)

    def update(self, *settings, dry_run=False, wait=True):
        return self._change(update, settings, dry_run=dry_run, wait=wait)

    def _change(self, change, settings, *, dry_run, wait, **request):
        asked = InstallRequest(Path("chart"), Values(settings=settings), **request)
        return change(self.add_on, asked, dry_run=dry_run, wait=wait, timeout=60)

    def helm_commands(self):
        changes = ("upgrade", "rollback", "uninstall")
        return [one[1] for one in self.helm.calls if one[1] in changes and "--dry-run=server" not in one]

    def interrupt(self, command):
        """Raise KeyboardInterrupt as soon as helm has carried this command out."""
        inner = self.helm

        def run(arguments, stdin):
            done = inner(arguments, stdin)
            if arguments[1] == command and "--dry-run=server" not in arguments:
                raise KeyboardInterrupt
            return done

        self.helm, self.real = run, inner


@pytest.fixture
def world():
    return World()


def lease_holder(world):
    found = world.server.find("Lease", LEASE_NAME)
    return found[0]["spec"]["holderIdentity"] if found else None


def test_enabling_creates_namespace_root_and_release_and_a_second_run_changes_nothing(world):
    done = world.enable()
    assert (done.changed, done.revision, world.helm_commands()) == (True, 1, ["upgrade"])
    (namespace,) = world.server.find("Namespace", "sgx")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    (root,) = world.server.find("Secret", SECRET)
    assert set(root["data"]) == {"seed", "created", "check"}
    assert lease_holder(world) == ""
    assert len(world.display.reported) == 1

    again = world.enable()
    assert (again.changed, again.revision, world.helm_commands()) == (False, 1, ["upgrade"])
    assert world.server.find("Secret", SECRET) == [root]


def test_a_dry_run_names_every_change_and_makes_none(world):
    done = world.enable(dry_run=True, simulated_nodes=("worker-1",))
    assert {f"{one.kind} {one.name}" for one in done.would_change} >= {"Namespace sgx", f"Secret {SECRET}"}
    assert world.server.writes == [] or not world.server.find("Namespace", "sgx")
    world.enable()
    before = [dict(one) for one in world.server.objects]
    done = world.update("level=b", dry_run=True)
    assert {one.name for one in done.would_change} == {"confcom-device-plugin", "confcom-quote-helper"}
    assert world.update(dry_run=True).would_change == ()
    assert world.server.objects == before


def test_a_node_is_labelled_for_simulation(world):
    world.server.put({**world.server.find("Node")[0], "metadata": {"name": "worker-1"}})
    world.enable(simulated_nodes=("worker-1",))
    assert world.server.find("Node")[0]["metadata"]["labels"]["confcom.internal/simulated-sgx"] == "true"


def test_a_failed_check_changes_nothing(world):
    world.server.objects[:] = [one for one in world.server.objects if one["kind"] != "Node"]
    before = list(world.server.objects)
    with pytest.raises(PreflightError):
        world.enable()
    assert (world.server.objects, world.helm_commands()) == (before, [])


def test_an_object_that_differs_or_is_missing_is_restored(world):
    world.enable()
    world.server.find("DaemonSet", "confcom-device-plugin")[0]["spec"]["template"]["spec"]["level"] = "changed"
    world.server.remove("ServiceAccount", "confcom-quote-helper")
    done = world.enable()
    assert (done.changed, done.revision) == (True, 2)
    assert world.server.find("DaemonSet", "confcom-device-plugin")[0]["spec"]["template"]["spec"]["level"] == "a"
    assert world.server.find("ServiceAccount", "confcom-quote-helper")


@pytest.mark.parametrize("release", [True, False], ids=["all DaemonSets deleted", "release removed by helm alone"])
def test_epc_that_the_controller_wrote_is_no_other_plugins(world, release):
    world.enable()
    (node,) = world.server.find("Node")
    others = [name for name in node["status"]["capacity"] if name != EPC]
    node["status"]["allocatable"] |= dict.fromkeys(others, "0")
    node["metadata"]["managedFields"] = [writes_of([EPC])]
    if release:
        for component in ("device-plugin", "quote-helper"):
            world.server.remove("DaemonSet", f"confcom-{component}")
    else:
        world.add_on.helm.uninstall()
    assert world.enable().changed
    assert len(world.server.find("DaemonSet")) == 2
    world.add_on.helm.uninstall()
    node["metadata"]["managedFields"] = [writes_of([EPC], "another-plugin")]
    with pytest.raises(PreflightError):
        world.enable()


def test_a_policy_that_no_apply_can_mend_is_deleted_for_helm_to_make(world):
    world.enable()
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/confcom-pods"
    refused = ("PATCH", path)
    world.server.refuse(lambda request: (request.method, request.url.path) == refused, 422, "it is invalid")
    assert world.enable().changed
    assert ("DELETE", path) in world.server.writes
    assert world.server.find("ValidatingAdmissionPolicyBinding", "confcom-pods")


def test_without_the_right_to_read_the_release_all_missing_permissions_are_named(world):
    world.helm.fail("history", 'Error: secrets is forbidden: User "eve" cannot list')
    world.server.denied |= {("create", "daemonsets"), ("list", "secrets")}
    with pytest.raises(PreflightError):
        world.enable(dry_run=True)
    (failed,) = [one for one in world.display.reported[0] if one.code == "permissions-missing"]
    assert "create daemonsets.apps in sgx" in failed.why
    assert "list secrets in sgx" in failed.why


def test_a_missing_root_is_created_anew_after_the_helpers_were_restarted(world):
    world.enable()
    world.server.remove("Secret", SECRET)
    world.server.requests.clear()
    assert world.enable().changed
    writes = [path for method, path in world.server.requests if method in {"PATCH", "POST"} and "reviews" not in path]
    restarted = next(index for index, path in enumerate(writes) if path.endswith("daemonsets/confcom-quote-helper"))
    created = next(index for index, path in enumerate(writes) if path.endswith("secrets"))
    template = world.server.find("DaemonSet", "confcom-quote-helper")[0]["spec"]["template"]
    assert restarted < created
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


@pytest.mark.parametrize("change", [World.update, lambda world: roll_back(world.add_on, None, wait=True, timeout=60)])
def test_without_a_release_there_is_nothing_to_change(world, change):
    with pytest.raises(NotEnabledError) as caught:
        change(world)
    assert "`confcom enable`" in caught.value.remedy


def test_a_rollback_restores_the_revision_before(world):
    world.enable()
    world.update("level=b")
    done = roll_back(world.add_on, None, wait=True, timeout=60)
    assert (done.revision, world.helm_commands()[-1]) == (3, "rollback")
    assert world.server.find("DaemonSet")[0]["spec"]["template"]["spec"]["level"] == "a"
    with pytest.raises(NoRevisionError):
        roll_back(world.add_on, 9, wait=True, timeout=60)


@pytest.mark.parametrize("denied", [("create", "leases"), ("patch", "daemonsets")])
def test_a_rollback_asks_for_permissions_before_anything(world, denied):
    world.enable()
    world.update("level=b")
    world.server.denied.add(denied)
    world.server.remove("Lease", LEASE_NAME)
    before = world.helm_commands()
    with pytest.raises(Exception) as caught:  # noqa: PT011 # its code is compared
        roll_back(world.add_on, None, wait=True, timeout=60)
    assert caught.value.error_code in {"forbidden", "preflight-failed"}
    assert world.helm_commands() == before


def test_a_second_change_is_refused_also_while_the_first_waits(world):
    world.enable()
    cluster = world.add_on.cluster
    with change_lease(cluster, "somebody else", world.now):
        for change in (
            world.enable,
            lambda: world.update("level=b"),
            lambda: roll_back(world.add_on, None, wait=1, timeout=1),
        ):
            with pytest.raises(ChangeRunningError) as caught:
                change()
            assert "somebody else" in caught.value.why
    assert world.helm_commands() == ["upgrade"]
    world.helm.ready = False
    holders = []

    def sleep(seconds):
        holders.append(lease_holder(world))
        world.seconds += seconds

    waiting = dataclasses.replace(world.add_on, sleep=sleep)
    with pytest.raises(NotReadyError):
        update(
            waiting, InstallRequest(Path("chart"), Values(settings=("level=b",))), dry_run=False, wait=True, timeout=9
        )
    assert all(one.startswith("update by ") for one in holders)
    assert lease_holder(world) == ""


@pytest.mark.parametrize(
    ("status", "undone"),
    [("pending-upgrade", "rollback"), ("pending-rollback", "rollback"), ("uninstalling", "uninstall")],
)
def test_an_interrupted_change_is_completed_by_the_same_command(world, status, undone):
    world.enable()
    world.helm.fail("upgrade", "killed", status=status)
    with pytest.raises(HelmError):
        world.update("level=b")
    change = world.enable if undone == "uninstall" else world.update
    with pytest.raises(ChangeRunningError):  # helm may be running
        change("level=b")
    world.seconds += 61
    with pytest.raises(ChangeRunningError):
        change("level=b", dry_run=True)
    if undone == "uninstall":
        with pytest.raises(NotEnabledError):
            world.update("level=b")
        with pytest.raises(PreflightError):  # the kubelet has not reported yet that the plugin is gone
            world.enable("level=b")
        world.server.find("Node")[0]["status"]["allocatable"] = {}
    assert change("level=b").changed
    assert world.helm_commands()[-2:] == [undone, "upgrade"]
    assert world.server.find("DaemonSet")[0]["spec"]["template"]["spec"]["level"] == "b"


def test_an_interrupted_installation_is_removed_and_made_again(world):
    world.helm.fail("upgrade", "killed", status="pending-install")
    with pytest.raises(HelmError):
        world.enable()
    world.seconds += 61
    assert world.enable().revision == 1
    assert world.helm_commands() == ["upgrade", "uninstall", "upgrade"]


def test_helms_failure_has_its_words_and_frees_the_lease(world):
    world.helm.fail("upgrade", "Error: no room", status="failed")
    with pytest.raises(HelmError) as caught:
        world.enable()
    assert (caught.value.why, lease_holder(world)) == ("no room", "")
    assert world.enable().changed


@pytest.mark.parametrize("command", ["history", "upgrade"])
def test_an_interruption_says_what_helm_has_recorded(world, command):
    world.interrupt(command)
    with pytest.raises((ChangeInterruptedError, KeyboardInterrupt)) as caught:
        world.enable()
    if command == "upgrade":
        assert "revision 1 is deployed" in caught.value.why
    assert lease_holder(world) in {"", None}
    world.helm = world.real
    assert world.enable().revision == 1


def history(*texts):
    """`ok`, `failed`, or the number of the revision that a rollback copies."""
    return [
        Revision.parse(
            {
                "revision": number,
                "status": "failed" if text == "failed" else "superseded",
                "description": f"Rollback to {text}" if isinstance(text, int) else "Upgrade complete",
            }
        )
        for number, text in enumerate(texts, 1)
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["ok", "ok"], 1),
        (["ok", "failed"], 1),
        (["ok", "failed", "ok"], 1),
        (["ok", "ok", "ok", 2], 1),
        (["ok", "ok", 1, "ok"], 1),
        (["ok", "ok", 1, "ok", 1, "ok", "failed", 6], 1),
        (["ok", "ok", "ok", 2, "ok", 4], 1),
        (["ok"], None),
        (["failed"], None),
        (["failed", "failed"], None),
        (["ok", "ok", 1], None),
        (["ok", "ok", 1, "ok", 3], None),
    ],
)
def test_each_rollback_goes_further_back(texts, expected):
    if expected is None:
        with pytest.raises(NoRevisionError):
            previous(history(*texts))
    else:
        assert previous(history(*texts)) == expected

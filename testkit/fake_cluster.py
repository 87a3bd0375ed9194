import contextlib
import copy
from datetime import UTC, datetime, timedelta

from click.testing import CliRunner

from confcom.addon.api import Api
from confcom.addon.command import AddOn
from confcom.addon.helm import Helm
from confcom.addon.login import Cluster
from confcom.cli.add_on_options import Machine
from confcom.cli.group import cli
from confcom.kubernetes.names import OURS, Component, component
from testkit import cluster_objects as make
from testkit.fake_api import FakeApi, cluster_of
from testkit.fake_helm import FakeHelm, golden_manifests
from testkit.working_daemons import settle

START = datetime(2026, 11, 29, 9, tzinfo=UTC)
REPORT_SECONDS, KEEPS_SECONDS = 10, 300


class Recorder:
    def __init__(self):
        self.said, self.found, self.rows = [], [], []

    def say(self, line):
        self.said.append(line)

    def findings(self, findings):
        self.found += findings

    def table(self, title):
        self.say(title)
        return self

    def show(self, rows, *, note=""):
        self.rows.append(list(rows))


class Kubelets:
    """Kubelets that report every 10 s; they set a resource to 0 once, five minutes after its plugin's end."""

    def __init__(self, api):
        self._api, self._ended, self._forgotten = api, {}, set()
        self.restarted = set()
        """Nodes whose kubelet restarted after the plugin's end, and now reports capacity 0 repeatedly."""

    def report(self, now):
        plugins = {
            pod["spec"]["nodeName"]
            for pod in self._api.find("Pod")
            if component(pod["metadata"].get("labels", {})) is Component.DEVICE_PLUGIN
            and pod["status"]["phase"] == "Running"
        }
        for node in self._api.find("Node"):
            name, status = node["metadata"]["name"], node["status"]
            if name in plugins or status["conditions"][0]["status"] != "True":
                continue
            ended, ours = self._ended.setdefault(name, (now, OURS & status["capacity"].keys()))
            if now - ended < KEEPS_SECONDS and name in self.restarted:
                status["capacity"] |= dict.fromkeys(ours, "0")
            if now - ended < KEEPS_SECONDS:
                status["allocatable"] |= dict.fromkeys(ours, "0")
            elif name not in self._forgotten:
                self._forgotten.add(name)
                for part in ("capacity", "allocatable"):
                    status[part] |= dict.fromkeys(ours & status[part].keys(), "0")


class FakeCluster:
    """A `FakeApi` with helm, kubelets, a clock and a display; `manifests` is the `render` of FakeHelm."""

    def __init__(self, objects=(), manifests=None, **options):
        self.api = FakeApi(objects, **options)
        self.helm = FakeHelm(self.api, manifests or golden_manifests("simulated", make.SYSTEM))
        self.helm.now = self.now
        self.kubelets, self.recorder, self.time = Kubelets(self.api), Recorder(), 0.0
        self.each = lambda: None
        """Function that is called after each wait of a command."""
        self.logins, self.context, self.server = [], "test", "https://test:6443"

    def clock(self):
        return self.time

    def now(self):
        return START + timedelta(seconds=self.time)

    def sleep(self, seconds):
        for _ in range(int((self.time + seconds) // REPORT_SECONDS - self.time // REPORT_SECONDS)):
            self.kubelets.report(self.time + seconds)
        self.time += seconds
        self.each()

    @contextlib.contextmanager
    def open(self, login, namespace=make.SYSTEM):
        self.logins.append(login)
        yield Cluster(namespace, login, self.context, self.server, Api(self.api))

    def add_on(self):
        cluster = cluster_of(self.api)
        return AddOn(cluster, Helm(cluster, self.helm), self.recorder, self.clock, self.sleep, self.now)

    def run(self, *arguments, **more):
        machine = Machine(self.open, self.helm, self.clock, self.sleep, now=self.now)
        return CliRunner().invoke(cli, list(map(str, arguments)), obj=machine, catch_exceptions=False, **more)

    def names(self):
        return {(one["kind"], one["metadata"]["name"]) for one in self.api.objects}

    def roll_slowly(self, broken=()):
        """Update daemons to their templates only while a command waits; `broken` is passed on to `settle`."""
        self.helm.ready, self.each = False, lambda: settle(self.api, broken)

    def state(self):
        """All state that a change may alter, except for Leases, because a freed Lease may stay."""
        objects = [one for one in self.api.objects if one["kind"] != "Lease"]
        return copy.deepcopy((objects, self.helm.revisions))

    def helm_changes(self):
        changes = {"upgrade", "rollback", "uninstall"}
        return [one[1] for one in self.helm.calls if one[1] in changes and "--dry-run=server" not in one]

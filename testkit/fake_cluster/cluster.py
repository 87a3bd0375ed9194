"""The cluster itself: kubectl's and helm's command lines change objects in memory, and time passes in `sleep`."""

import functools
import subprocess
from dataclasses import dataclass, field

from testkit.fake_cluster.chart import default_chart
from testkit.fake_cluster.control_plane import ControlPlane
from testkit.fake_cluster.helm import Helm
from testkit.fake_cluster.hook import HookRun
from testkit.fake_cluster.kubectl import Kubectl
from testkit.fake_cluster.objects import SYSTEM, name_of

CHANGING = {"upgrade", "rollback", "uninstall", "label", "patch", "delete", "create"}


def words_and_flags(arguments):
    """As kubectl and helm read them: what stands behind `--` is no flag."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    flags = dict(word.lstrip("-").partition("=")[::2] for word in arguments[:at] if word.startswith("-"))
    return [word for word in arguments[:at] if not word.startswith("-")] + arguments[at + 1 :], flags


@dataclass
class FakeCluster(ControlPlane, Kubectl, Helm):
    """Everything that a test may set is a field."""

    objects: list = field(default_factory=list)
    helm_version: str = "v4.3.1"
    kubernetes: str = "v1.36.3"
    missing: set = field(default_factory=set)
    """Programs that are not installed."""
    context: str = ""
    """The current one of the kubeconfig."""
    away: bool = False
    """The API server does not answer."""
    denied: set = field(default_factory=set)
    """`VERB RESOURCE` that the user may not; `VERB RESOURCE everywhere`: not in all namespaces at once."""
    pod_refusal: str = ""
    """What kubectl says when a daemon's pod is tried."""
    broken_images: dict = field(default_factory=dict)
    """By image: the status of its pods."""
    logs: dict = field(default_factory=dict)
    new_root: str = "ab" * 32
    """The fingerprint of a root that is made."""
    roots: dict = field(default_factory=dict)
    """By pod: the fingerprint of the root by which a helper says that it quotes."""
    provision_devices: dict = field(default_factory=dict)
    """By node: what its device plugin tells of /dev/sgx_provision; if some do, the others do not answer."""
    silent_plugins: set = field(default_factory=set)
    """Nodes whose device plugin does not answer."""
    accountings: dict = field(default_factory=dict)
    """By node: what its device plugin tells of EPC beside what all tell."""
    chart: object = default_chart
    lasting: bool = False
    """Whether an update that was begun goes nowhere."""
    revisions: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    said: list = field(default_factory=list)
    """What kubectl was given to read, as text."""
    now: float = 1000.0
    plugin_ended: dict = field(default_factory=dict)
    on_tick: object = None
    watch: object = None
    """What is done while helm makes a change."""

    def __post_init__(self):
        self.objects.append({"kind": "Namespace", "metadata": {"name": "default"}})
        self.hook = HookRun(self)

    def find(self, kind, name=None, namespace=None):
        return [
            one
            for one in self.objects
            if one["kind"] == kind
            and name in {None, one["metadata"]["name"]}
            and namespace in {None, one["metadata"].get("namespace")}
        ]

    def remove(self, named):
        """With what belongs to them."""
        self.objects = [
            one
            for one in self.objects
            if name_of(one) not in named
            and not any((owner["kind"], owner["name"]) in named for owner in one["metadata"].get("ownerReferences", []))
        ]

    def node(self, name):
        (found,) = self.find("Node", name)
        return found

    @property
    def changes(self):
        """Command lines that have changed something."""
        kept = [line for line in self.calls if line[1] in CHANGING and "--output=json" not in line]
        return [line for line in kept if not any(word.startswith("--dry-run") for word in line)]

    # What a test has it do.

    def replace(self, verb, change):
        """Have helm make a change so; `change` is given the way in which it makes it. Dry runs stay as they are."""
        own = getattr(self, f"_helm_{verb}")

        def changed(words, flags, rest, stdin):
            made = functools.partial(own, words, flags, rest, stdin)
            return made() if "dry-run" in flags else change(made)

        setattr(self, f"_helm_{verb}", changed)

    def leave_after(self, verb, seconds):
        """Have the API server go away for so long as soon as helm has made a change."""
        back = []

        def leave(change):
            done = change()
            back.append(self.now + seconds)
            self.away = True
            return done

        def tick(_):
            self.away = bool(back) and self.now < back[0]

        self.replace(verb, leave)
        self.on_tick = tick

    def change_daemon_sets(self, change):
        """Have the chart render DaemonSets otherwise; `change` is given each, and the values."""
        own = self.chart

        def chart(values):
            rendered = own(values)
            for one in rendered:
                if one["kind"] == "DaemonSet":
                    change(one, values)
            return rendered

        self.chart = chart

    def settle(self):
        """Let Pods that are missing be made, and then run."""
        self.sleep(1)
        self.sleep(1)

    def daemon(self, component):
        """The only Pod of a DaemonSet."""
        pods = self.find("Pod", namespace=SYSTEM)
        (found,) = [one for one in pods if one["metadata"]["name"].startswith(f"confcom-{component}-")]
        return found

    # What AddOn is given.

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.tick()
        self.hook.tick()

    def run(self, arguments, /, *, stdin=None, timeout=60.0, watch=None, most=0):
        self.watch = watch or self.watch
        self.calls.append(list(arguments))
        program, *rest = arguments
        if stdin is not None and program == "kubectl":
            self.said.append(stdin.decode())
        if program in self.missing:
            raise FileNotFoundError(program)
        words, flags = words_and_flags(rest)
        try:
            code, out, err = getattr(self, f"_{program}")(words, flags, rest, stdin)
        finally:
            if watch is not None:
                watch.running = False
        if watch is not None and self.hook.interrupted():
            raise KeyboardInterrupt
        return subprocess.CompletedProcess(arguments, code, out.encode(), err.encode())

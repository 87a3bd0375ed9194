"""The cluster itself: kubectl's and helm's command lines change objects in memory, and time passes in `sleep`."""

import copy
import json
import subprocess
import threading
from dataclasses import dataclass, field

from testkit.fake_cluster import fields
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import HOOK, default_chart
from testkit.fake_cluster.hook import CANCELLED, HookRun
from testkit.fake_cluster.objects import ENCLAVE, EPC, HELPER_EPC, PROVISION, SYSTEM

CLUSTER_WIDE = {"Node", "Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
KUBELET_KEEPS = 300.0
_COUNTS = {EPC: 162, ENCLAVE: 1024, HELPER_EPC: 6, PROVISION: 1024}
OFFERED = {
    "device-plugin": _COUNTS,
    "device-plugin-simulated": {f"simulated.confcom.internal/{one.partition('/')[2]}": _COUNTS[one] for one in _COUNTS},
}
"""By component: what a node's device plugin offers, the second one beside hardware."""


def name_of(one):
    return one["kind"], one["metadata"]["name"]


def plural_of(one):
    kind = one["kind"].lower()
    return f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"


def words_and_flags(arguments):
    """As kubectl and helm read them: what stands behind `--` is no flag."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    flags = dict(word.lstrip("-").partition("=")[::2] for word in arguments[:at] if word.startswith("-"))
    return [word for word in arguments[:at] if not word.startswith("-")] + arguments[at + 1 :], flags


@dataclass
class FakeCluster:
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
    chart: object = default_chart
    lasting: bool = False
    """Whether an update that was begun goes nowhere."""
    stalling: bool = False
    """Whether the DaemonSet controller misses that new pods are ready, until a DaemonSet is annotated."""
    revisions: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    said: list = field(default_factory=list)
    """What kubectl was given to read, as text."""
    now: float = 1000.0
    plugin_ended: dict = field(default_factory=dict)
    on_tick: object = None
    lock: object = field(default_factory=threading.RLock)
    """Its programs may be processes, which run at the same time."""
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

    # What AddOn is given.

    def clock(self):
        return self.now

    def sleep(self, seconds):
        with self.lock:
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

    # The control plane and the kubelets.

    def tick(self):
        if self.on_tick:
            self.on_tick(self)
        for daemon in self.find("DaemonSet", namespace=SYSTEM):
            if not self.lasting:
                self._roll(daemon)
        for node in self.find("Node"):
            self._kubelet(node)

    def _roll(self, daemon):
        name, template = daemon["metadata"]["name"], daemon["spec"]["template"]
        revision = str(abs(hash(json.dumps(template, sort_keys=True))))
        wanted = template["spec"]["nodeSelector"].items()
        nodes = [one for one in self.find("Node") if wanted <= one["metadata"]["labels"].items()]
        known = self.find("ControllerRevision")
        newest = max((one["revision"] for one in known), default=0)
        again = self.find("ControllerRevision", f"{name}-{revision}")
        mine = [one for one in known if one["metadata"]["ownerReferences"][0]["name"] == name]
        if again and again[0]["revision"] < max(one["revision"] for one in mine):
            again[0]["revision"] = newest + 1  # a rollback makes an old template the newest
        if not again:
            label = {"controller-revision-hash": revision}
            self.objects.append(
                {
                    "kind": "ControllerRevision",
                    "revision": newest + 1,
                    "metadata": {
                        "name": f"{name}-{revision}",
                        "namespace": SYSTEM,
                        "labels": label,
                        "ownerReferences": [{"kind": "DaemonSet", "name": name, "controller": True}],
                    },
                }
            )
        done, chosen = 0, {node["metadata"]["name"] for node in nodes}
        for pod in self.find("Pod", namespace=SYSTEM):
            owners = [one["name"] for one in pod["metadata"]["ownerReferences"]]
            if owners == [name] and pod["spec"]["nodeName"] not in chosen:
                self.objects.remove(pod)
        for node in nodes:
            where = node["metadata"]["name"]
            pods = [
                p for p in self.find("Pod", namespace=SYSTEM) if p["metadata"]["name"].startswith(f"{name}-{where}")
            ]
            new = [p for p in pods if p["metadata"]["labels"]["controller-revision-hash"] == revision]
            container = template["spec"]["containers"][0]
            if not new:
                made = make.pod(
                    f"{name}-{where}-{len(self.revisions)}{len(self.calls)}",
                    namespace=SYSTEM,
                    on=where,
                    owner=("DaemonSet", name),
                    labels=template["metadata"]["labels"] | {"controller-revision-hash": revision},
                    image=container["image"],
                    limits=container["resources"]["limits"],
                    status=copy.deepcopy(self.broken_images.get(container["image"]))
                    or make.waiting("ContainerCreating"),
                )
                self.objects.append(made)
            elif container["image"] not in self.broken_images:
                new[0]["status"] = make.running(new[0]["status"])
                done += self._replaced(pods, new[0])
        daemon["status"] = {
            "observedGeneration": daemon["metadata"]["generation"],
            "desiredNumberScheduled": len(nodes),
            "currentNumberScheduled": len(nodes),
            "updatedNumberScheduled": done,
            "numberAvailable": done,
        }

    def _replaced(self, pods, new):
        """End a node's old pods beside its ready one; whether there are none left."""
        if not self.stalling:
            for old in pods:
                if old is not new:
                    self.objects.remove(old)
        return not self.stalling or pods == [new]

    def _kubelet(self, node):
        name, status = node["metadata"]["name"], node["status"]
        if status["conditions"][0]["status"] != "True":
            return
        components = {
            pod["metadata"]["labels"].get("app.kubernetes.io/component")
            for pod in self.find("Pod", namespace=SYSTEM)
            if pod["spec"]["nodeName"] == name and pod["status"]["phase"] == "Running"
        }
        for component, offered in OFFERED.items():
            self._resources(node, offered, by=(name, component), there=component in components)

    def _resources(self, node, offered, *, by, there):
        capacity, allocatable = node["status"]["capacity"], node["status"]["allocatable"]
        if there:
            self.plugin_ended.pop(by, None)
            for resource, count in offered.items():
                capacity[resource] = allocatable[resource] = str(count)
        elif any(capacity.get(one, "0") != "0" for one in offered):
            forgotten = self.now - self.plugin_ended.setdefault(by, self.now) >= KUBELET_KEEPS
            for resource in offered:
                allocatable[resource] = "0"
                if forgotten:
                    capacity[resource] = "0"

    # kubectl

    def _kubectl(self, words, flags, rest, stdin):
        if self.away:
            return 1, "", "The connection to the server 10.0.0.1:6443 was refused"
        verb, *words = words
        with self.lock:
            return getattr(self, f"_kubectl_{verb}")(words, flags, stdin)

    def _kubectl_version(self, words, flags, stdin):
        return 0, json.dumps({"serverVersion": {"gitVersion": self.kubernetes}}), ""

    def _kubectl_config(self, words, flags, stdin):
        return (0, f"{self.context}\n", "") if self.context else (1, "", "error: current-context is not set")

    def _kubectl_get(self, words, flags, stdin):
        if "raw" in flags:
            return self._raw(flags["raw"])
        if "filename" in flags:
            read = self._read if flags.get("output") == "json" else self._named
            return read(json.loads(stdin)["items"])
        kinds = [one.partition(".")[0] for one in words[0].split(",")]
        wanted = {kind.removesuffix("s") for kind in kinds}
        if "pod" in wanted:
            self.hook.look()
        for kind in kinds:
            verb, plural = ("get", f"{kind}s") if len(words) > 1 else ("list", kind)
            everywhere = " everywhere" if "all-namespaces" in flags else ""
            if {f"{verb} {plural}", f"{verb} {plural}{everywhere}"} & self.denied:
                return 1, "", f'Error from server (Forbidden): {plural} is forbidden: User "eve" cannot {verb} resource'
        found = [
            one
            for one in self.objects
            if one["kind"].lower() in wanted
            and (
                "namespace" not in flags
                or one["kind"] in CLUSTER_WIDE
                or one["metadata"].get("namespace") == flags["namespace"]
            )
            and (len(words) == 1 or one["metadata"]["name"] == words[1])
            and flags.get("field-selector", "") in {"", f"reason={one.get('reason')}"}
        ]
        if flags.get("output") == "name":
            return 0, "\n".join(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in found), ""
        if len(words) > 1:
            return 0, json.dumps(found[0]) if found else "", ""
        return 0, json.dumps({"kind": "List", "items": found}), ""

    def _named(self, asked):
        names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in asked]
        there = [(api.rpartition("/")[0], kind, name) for api, kind, name in names if self.find(kind, name)]
        return 0, "\n".join(f"{kind}.{group}".rstrip(".").lower() + f"/{name}" for group, kind, name in there), ""

    def _raw(self, path):
        if "get pods/proxy" in self.denied:
            return (
                1,
                "",
                'Error from server (Forbidden): pods is forbidden: User "eve" cannot get resource "pods/proxy"',
            )
        pod = path.split("/pods/")[1].partition(":")[0]
        if pod not in self.roots:
            return 1, "", "Error from server (ServiceUnavailable): the server is currently unable to handle the request"
        return 0, f'a 1\nconfcom_quote_helper_simulated_root_info{{sha256="{self.roots[pod]}"}} 1.0\nb 2\n', ""

    def _read(self, asked):
        """With managed fields. Of several objects, kubectl prints none if one of them is refused."""
        kinds = list(map(plural_of, asked))
        groups = [one["apiVersion"].rpartition("/")[0] for one in asked]
        refused = [
            f'Error from server (Forbidden): {f"{kind}.{group}".rstrip(".")} "{one["metadata"]["name"]}" is forbidden: '
            f'User "eve" cannot get resource "{kind}"'
            for kind, group, one in zip(kinds, groups, asked, strict=True)
            if f"get {kind}" in self.denied
        ]
        if refused:
            return 1, "", "\n".join(refused)
        found = [there for one in asked for there in self.find(*name_of(one))]
        return 0, json.dumps(found[0] if len(asked) == 1 else {"kind": "List", "items": found}) if found else "", ""

    def _kubectl_create(self, words, flags, stdin):
        given = json.loads(stdin)
        if given["kind"] == "List":
            answers = []
            for one in given["items"]:
                asked = one["spec"]["resourceAttributes"]
                what = asked["resource"] + (f"/{asked['subresource']}" if "subresource" in asked else "")
                answers.append(one | {"status": {"allowed": f"{asked['verb']} {what}" not in self.denied}})
            return 0, "\n".join(json.dumps(one) for one in answers), ""
        if flags.get("dry-run") == "server":
            return (1, "", self.pod_refusal) if self.pod_refusal else (0, "x", "")
        self.objects.append(given)
        return 0, "created", ""

    def _kubectl_label(self, words, flags, stdin):
        _, name, label = words
        key, _, value = label.partition("=")
        self.node(name)["metadata"]["labels"][key] = value
        return 0, "labeled", ""

    def _kubectl_annotate(self, words, flags, stdin):
        kind, name, annotation = words
        if f"patch {kind.partition('.')[0]}s" in self.denied:
            return 1, "", f'Error from server (Forbidden): {kind} is forbidden: User "eve" cannot patch resource'
        (found,) = self.find("DaemonSet", name)
        key, _, value = annotation.partition("=")
        found["metadata"].setdefault("annotations", {})[key] = value
        self.stalling = False
        return 0, "annotated", ""

    def _kubectl_patch(self, words, flags, stdin):
        kind, name = words
        patch = json.loads(flags["patch"])
        if "/metadata/managedFields/" in flags["patch"]:
            return self._patch_managers(kind.partition(".")[0], name, patch)
        if kind == "job":
            (job,) = self.find("Job", name)
            job["spec"] |= patch["spec"]
            return 0, "patched", ""
        node = copy.deepcopy(self.node(name))
        for operation in patch:
            _, part, *path = operation["path"].split("/")
            holder = node[part][path[0]]
            key = path[1].replace("~1", "/").replace("~0", "~")
            if operation["op"] == "test" and holder.get(key) != operation["value"]:
                return 1, "", "Error from server (Invalid): the server rejected our request: test failed"
            if operation["op"] == "remove":
                del holder[key]
        self.objects[self.objects.index(self.node(name))] = node
        return 0, "patched", ""

    def _patch_managers(self, kind, name, patch):
        (thing,) = self.find(kind, name)
        kept = copy.deepcopy(thing["metadata"]["managedFields"])
        for operation in patch:
            _, _, _, index, *part = operation["path"].split("/")
            if operation["op"] == "test" and kept[int(index)] != operation["value"]:
                return 1, "", "Error from server (Invalid): the server rejected our request: test failed"
            if operation["op"] == "replace":
                kept[int(index)][part[0]] = operation["value"]
            elif operation["op"] == "remove":
                del kept[int(index)]
            elif operation["op"] == "add":
                kept.append(operation["value"])
        thing["metadata"]["managedFields"] = kept
        return 0, "patched", ""

    def _kubectl_delete(self, words, flags, stdin):
        kind, *names = words
        self.remove({(kind.partition(".")[0], name) for name in names})
        return 0, "deleted", ""

    def _kubectl_logs(self, words, flags, stdin):
        return 0, self.logs.get(words[0], ""), ""

    # helm

    def _helm(self, words, flags, rest, stdin):
        verb, *words = words
        if verb == "version":
            return 0, self.helm_version, ""
        if self.away:
            return 1, "", "Error: Kubernetes cluster unreachable"
        if "list secrets" in self.denied:
            return 1, "", 'Error: query: failed to query with labels: secrets is forbidden: User "eve" cannot list'
        return getattr(self, f"_helm_{verb}")(words, flags, rest, stdin)

    def _helm_history(self, words, flags, rest, stdin):
        if not self.revisions:
            return 1, "", "Error: release: not found"
        shown = ("revision", "status", "description", "updated")
        return 0, json.dumps([{key: one[key] for key in shown if key in one} for one in self.revisions]), ""

    def _helm_get(self, words, flags, rest, stdin):
        now = self.revisions[-1]
        if "revision" in flags:
            (now,) = [one for one in self.revisions if one["revision"] == int(flags["revision"])]
        if words[0] == "values":
            return 0, json.dumps(now["values"]), ""
        return 0, "\n---\n".join(json.dumps(one) for one in now["manifests" if words[0] == "manifest" else "hooks"]), ""

    def _helm_upgrade(self, words, flags, rest, stdin):
        if self.revisions and self.revisions[-1]["status"].startswith("pending-"):
            return 1, "", "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress"
        values = json.loads(stdin)
        for word in rest:
            if word.startswith("--set"):
                _, path, value = word.split("=", 2)
                at = values
                *parents, last = path.split(".")
                for parent in parents:
                    at = at.setdefault(parent, {})
                read = {"true": True, "false": False}.get(value, int(value) if value.isdecimal() else value)
                at[last] = value if word.startswith("--set-string") else read
        try:
            rendered = self.chart(values)
        except ValueError as error:
            return 1, "", str(error)
        hooks = [one for one in rendered if HOOK in one["metadata"].get("annotations", {})]
        manifests = [one for one in rendered if one not in hooks]
        hooks = [] if "no-hooks" in flags else hooks
        if "dry-run" in flags:
            text = "\n---\n".join(map(json.dumps, manifests))
            shown = [{"manifest": json.dumps(one)} for one in hooks]
            return 0, json.dumps({"manifest": text, "hooks": shown, "config": values}), ""
        new = {"values": copy.deepcopy(values), "manifests": manifests, "hooks": hooks}
        failure = self.hook.play(hooks)
        with self.lock:
            if failure == CANCELLED:
                failure = f"UPGRADE FAILED: {failure}"
                self._record(new, f'Upgrade "confcom" failed: {CANCELLED}', "failed")
            elif failure:
                failure = (
                    "UPGRADE FAILED: pre-upgrade hooks failed: " if self.revisions else "failed pre-install: "
                ) + failure
                self._record(new, failure, "failed")
            else:
                done = "Upgrade complete" if self.revisions else "Install complete"
                if said := self._release(new, done, flags):
                    failure = f"UPGRADE FAILED: {said}"
            self.hook.close()
        return (1, "", f"Error: {failure}") if failure else (0, "", "")

    def _helm_rollback(self, words, flags, rest, stdin):
        target = next(one for one in self.revisions if one["revision"] == int(words[1]))
        with self.lock:
            failure = self._release(target, f"Rollback to {words[1]}", flags)
        return (1, "", f"Error: {failure}") if failure else (0, "", "")

    def _helm_uninstall(self, words, flags, rest, stdin):
        self.remove({name_of(one) for one in self.revisions[-1]["manifests"]})
        self.revisions = []
        self.tick()
        return 0, "", ""

    def _record(self, new, description, status):
        kept = {"revision": len(self.revisions) + 1, "status": status, "description": description}
        self.revisions.append({part: new[part] for part in ("values", "manifests", "hooks")} | kept)

    def _release(self, new, description, flags):
        """Apply and record it; says why it failed, and then what is not in conflict is applied all the same."""
        helm_3 = self.helm_version.startswith("v3")
        force = ("force" if helm_3 else "force-conflicts") in flags
        made, failures = {}, []
        for one in new["manifests"]:
            old = self.find(*name_of(one))
            resource = plural_of(one)
            if helm_3 and force and f"update {resource}" in self.denied:
                failures.append(
                    f'failed to replace object: {resource} "{one["metadata"]["name"]}" is forbidden: User "eve" cannot '
                    f'update resource "{resource}"'
                )
                continue
            try:
                made[name_of(one)] = fields.changed(old[0] if old else None, one, helm_3=helm_3, force=force)
            except fields.ConflictError as error:
                failures.append(str(error))
        if failures:
            self._apply(made)
            word = "Rollback" if description.startswith("Rollback") else "Upgrade"
            self._record(new, f'{word} "confcom" failed: {" && ".join(failures)}', "failed")
            return " && ".join(failures)
        for before in self.revisions:
            if before["status"] == "deployed":
                before["status"] = "superseded"
                self.remove(set(map(name_of, before["manifests"])) - set(map(name_of, new["manifests"])))
        self._record(new, description, "deployed")
        self._apply(made)
        return ""

    def _apply(self, made):
        for name, fresh in made.items():
            old = self.find(*name)
            for gone in old:
                self.objects.remove(gone)
            if "spec" in fresh:
                generation = old[0]["metadata"]["generation"] if old else 0
                fresh["metadata"]["generation"] = generation + (not old or old[0]["spec"] != fresh["spec"])
                fresh["status"] = copy.deepcopy(old[0]["status"]) if old else {}
            self.objects.append(fresh)

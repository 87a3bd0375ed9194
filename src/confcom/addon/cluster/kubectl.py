"""Access to a cluster's API server by kubectl, with the user's own credentials."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from confcom.addon.cluster.command_output import CommandOutput
from confcom.addon.cluster.programs import (
    MIB,
    ClusterAccessError,
    ErrorContext,
    Run,
    access_error,
    call,
    manual_command,
    run_program,
    stderr_summary,
)
from confcom.addon.model.chart_objects import group_of
from confcom.addon.preflight.admission import ProbeAnswer
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, text

DEFAULT_NAMESPACE = "confcom-system"
"""The namespace of the add-on, unless --namespace names another."""
API_SECONDS = 20
"""kubectl's request timeout; without it, kubectl waits for ever."""
LOG_SECONDS = 5.0
"""Timeout for a pod's log: it comes through the node's kubelet, and a silent kubelet would delay everything else."""
MAX_LOG_BYTES = 4 * MIB
"""Limit for a pod's log or metrics. 2,000 lines of a daemon's log are 600 KB; metrics are 1 KB per pod of a node."""

_FOUND_AS_JSON = ("--output=json", "--ignore-not-found")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and the add-on's namespace in it."""

    namespace: str = DEFAULT_NAMESPACE
    context: str = ""
    """A context of the kubeconfig; empty: the current context."""

    def kubectl(self, *arguments: str, operands: Sequence[str] = ()) -> list[str]:
        """Return a kubectl command line in which no value can be read as a flag.

        Args:
            arguments: the command, and flags with their values joined by `=`.
            operands: kinds and names. They follow `--`, so that kubectl cannot read them as flags.
        """
        context = [f"--context={self.context}"] if self.context else []
        behind = ["--", *operands] if operands else []
        return ["kubectl", *arguments, *context, f"--request-timeout={API_SECONDS}s", *behind]

    @property
    def namespace_flag(self) -> str:
        """The flag for the namespace, which kubectl and helm have in common."""
        return f"--namespace={self.namespace}"

    @property
    def described(self) -> str:
        """The namespace and the context, as text for messages."""
        return f"the namespace {self.namespace}" + (f" of {self.context}" if self.context else "")


def resolve_context(cluster: Cluster, run: Run = run_program) -> Cluster:
    """Return the cluster with the name of the current context if it has none.

    The user may switch to another context while a command waits, and each kubectl and helm reads the kubeconfig again.
    The context stays empty if there is no current one, as in a pod, and if kubectl fails or prints no name: the next
    query reports that failure.
    """
    if cluster.context:
        return cluster
    try:
        done = call(run, ["kubectl", "config", "current-context"], ErrorContext("the current context cannot be read"))
    except ClusterAccessError:
        return cluster
    context = "" if done.returncode else done.stdout.decode("utf-8", errors="replace").strip()
    return dataclasses.replace(cluster, context=context) if context.isprintable() else cluster


@dataclass(frozen=True, slots=True)
class KubeApi:
    """Access to the cluster's objects: each method runs kubectl once.

    Args:
        cluster: the cluster and the namespace.
        run: runs one program.
    """

    cluster: Cluster
    run: Run = run_program

    def server_version(self) -> str:
        """Return the API server's version, as in `v1.36.3`.

        Raises:
            ClusterAccessError: the API server does not answer.
        """
        arguments = self.cluster.kubectl("version", "--output=json")
        found = self._checked(arguments, "the API server cannot be reached").mapping()
        return text(found, "serverVersion", "gitVersion")

    def list_objects(self, kinds: str, *selection: str) -> tuple[KubernetesObject, ...]:
        """List the objects of one or more kinds (`nodes,pods`).

        Args:
            kinds: the kinds, as kubectl spells them.
            selection: flags, such as `--all-namespaces` or a selector.

        Raises:
            ClusterAccessError: they cannot be listed.
        """
        arguments = self.cluster.kubectl("get", *selection, *_FOUND_AS_JSON, operands=[kinds])
        return self._checked(arguments, f"{kinds} cannot be listed").items()

    def find_namespace(self) -> KubernetesObject | None:
        """Return the add-on's namespace; None if it does not exist.

        Raises:
            ClusterAccessError: it cannot be read.
        """
        name = self.cluster.namespace
        arguments = self.cluster.kubectl("get", *_FOUND_AS_JSON, operands=["namespace", name])
        return self._checked(arguments, f"the namespace {name} cannot be read").resource()

    def find_config_map(self, name: str) -> KubernetesObject | None:
        """Return a ConfigMap of the add-on's namespace; None if it does not exist.

        Raises:
            ClusterAccessError: it cannot be read.
        """
        arguments = self.cluster.kubectl(
            "get", self.cluster.namespace_flag, *_FOUND_AS_JSON, operands=["configmap", name]
        )
        return self._checked(arguments, f"the ConfigMap {name} cannot be read").resource()

    def pod_metrics(self, pod: str, port: int) -> str:
        """Return the /metrics of a pod of the add-on's namespace, through the API server's proxy.

        Raises:
            ClusterAccessError: the pod does not answer, or this user may not ask it.
        """
        namespace, name = (quote(one, safe="") for one in (self.cluster.namespace, pod))
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"
        failure = f"the metrics of {pod} cannot be read"
        command = self.cluster.kubectl("get", f"--raw={path}")
        done = call(self.run, command, ErrorContext(failure), timeout=LOG_SECONDS, most=MAX_LOG_BYTES)
        if done.returncode:
            raise access_error(failure, stderr_summary(done.stderr) or "kubectl said nothing")
        return done.stdout.decode("utf-8", errors="replace")

    def review(self, objects: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
        """Create several reviews in one call, such as SelfSubjectAccessReviews; return the answers in the same order.

        Raises:
            ClusterAccessError: the API server did not answer all of them.
        """
        arguments = self.cluster.kubectl("create", "--filename=-", "--output=json")
        return self._checked(arguments, "permissions cannot be asked for", stdin=list_of(objects)).resources()

    def create(self, thing: KubernetesObject) -> None:
        """Create an object.

        Raises:
            ClusterAccessError: the API server refused it.
        """
        kind, name = thing["kind"], thing["metadata"]["name"]
        arguments = self.cluster.kubectl("create", "--filename=-")
        self._checked(arguments, f"{kind} {name} cannot be created", stdin=json.dumps(thing).encode())

    def refusal(self, thing: KubernetesObject) -> ProbeAnswer:
        """Return whether admission would refuse an object, and why. Nothing is created."""
        arguments = self.cluster.kubectl("create", "--filename=-", "--dry-run=server", "--output=name")
        error_context = ErrorContext("the API server cannot be asked about a Pod")
        try:
            done = call(self.run, arguments, error_context, stdin=json.dumps(thing).encode())
        except ClusterAccessError as error:
            return ProbeAnswer(doubt=f"{error.what}: {error.why}")
        said = done.stderr.decode("utf-8", errors="replace")
        return ProbeAnswer.read(said, stderr_summary(done.stderr)) if done.returncode else ProbeAnswer()

    def label_node(self, node: str, label: str) -> None:
        """Set a label (`KEY=VALUE`) on a node.

        Raises:
            ClusterAccessError: the API server refused it.
        """
        arguments = self.cluster.kubectl("label", "--overwrite", operands=["node", node, label])
        self._checked(arguments, f"the node {node} cannot be labelled")

    def annotate(self, kind: str, name: str, annotation: str) -> None:
        """Set an annotation (`KEY=VALUE`) on an object of the add-on's namespace.

        Raises:
            ClusterAccessError: the API server refused it.
        """
        arguments = self.cluster.kubectl(
            "annotate", "--overwrite", self.cluster.namespace_flag, operands=[kind, name, annotation]
        )
        self._checked(arguments, f"{kind} {name} cannot be annotated")

    def patch_node_status(self, node: str, patch: Sequence[Mapping[str, str]]) -> str:
        """Apply a JSON patch to a node's status; return why it was refused, or an empty string."""
        flags = ["--subresource=status", "--type=json", f"--patch={json.dumps(list(patch))}"]
        arguments = self.cluster.kubectl("patch", *flags, operands=["node", node])
        done = call(self.run, arguments, ErrorContext(f"the status of the node {node} cannot be changed"))
        return stderr_summary(done.stderr) or "kubectl said nothing" if done.returncode else ""

    def delete(self, kind: str, names: Sequence[str], *, namespace: str = "") -> None:
        """Delete objects of a kind by name; missing objects are ignored.

        Args:
            kind: the manifests' `kind`, with its group (`Role.rbac.authorization.k8s.io`).
            names: at least one name.
            namespace: empty for cluster-wide kinds.

        Raises:
            ClusterAccessError: the API server refused it.
        """
        where = [f"--namespace={namespace}"] if namespace else []
        flags = [*where, "--ignore-not-found", "--wait=false"]
        arguments = self.cluster.kubectl("delete", *flags, operands=[kind, *names])
        self._checked(arguments, f"{kind} {', '.join(names)} cannot be deleted")

    def end_job(self, name: str) -> None:
        """Make a Job of the add-on's namespace fail within a second, by its activeDeadlineSeconds.

        Raises:
            ClusterAccessError: the API server refused it.
        """
        patch = json.dumps({"spec": {"activeDeadlineSeconds": 1}})
        arguments = self.cluster.kubectl(
            "patch", self.cluster.namespace_flag, f"--patch={patch}", operands=["job", name]
        )
        self._checked(arguments, f"the Job {name} cannot be ended")

    def exists(self, kind: str, name: str) -> bool:
        """Return whether an object exists in the add-on's namespace; its content is not read.

        Raises:
            ClusterAccessError: the look-up failed.
        """
        flags = [self.cluster.namespace_flag, "--output=name", "--ignore-not-found"]
        arguments = self.cluster.kubectl("get", *flags, operands=[kind, name])
        return bool(self._checked(arguments, f"{kind} {name} cannot be looked up").names())

    def missing(self, things: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
        """Return the objects that are not in the cluster; their contents are not read.

        Args:
            things: manifests; those without a namespace are looked up in the add-on's.

        Raises:
            ClusterAccessError: the look-up failed.
        """
        if not things:
            return ()
        named = [self.named(one) for one in things]
        arguments = self.cluster.kubectl("get", "--filename=-", "--output=name", "--ignore-not-found")
        found = self._checked(arguments, "what is installed cannot be looked up", stdin=list_of(named)).names()
        return tuple(one for one in things if _resource_name(one) not in found)

    def patch(self, thing: KubernetesObject, patch: Sequence[Mapping[str, object]]) -> None:
        """Apply a JSON patch to an object.

        Raises:
            ClusterAccessError: the API server refused it, or a test in the patch failed.
        """
        kind, name = f"{thing['kind']}.{group_of(thing)}".rstrip("."), name_of(thing)
        where = [f"--namespace={namespace_of(thing)}"] if namespace_of(thing) else []
        flags = [*where, "--type=json", f"--patch={json.dumps(patch)}"]
        arguments = self.cluster.kubectl("patch", *flags, operands=[kind, name])
        self._checked(arguments, f"{thing['kind']} {name} cannot be patched")

    def named(self, thing: KubernetesObject) -> KubernetesObject:
        """Return the part of a manifest that identifies the object: API version, kind, name and namespace."""
        metadata = {"name": name_of(thing), "namespace": namespace_of(thing) or self.cluster.namespace}
        return {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": metadata}

    def log_tail(self, pod: str, lines: int) -> str:
        """Return the last lines of the log of a pod of the namespace; empty if it cannot be read."""
        flags = [self.cluster.namespace_flag, f"--tail={lines}", "--all-containers=false"]
        arguments = self.cluster.kubectl("logs", *flags, operands=[pod])
        try:
            error_context = ErrorContext(f"the log of {pod} cannot be read")
            done = call(self.run, arguments, error_context, timeout=LOG_SECONDS, most=MAX_LOG_BYTES)
        except ClusterAccessError:
            return ""
        return "" if done.returncode else done.stdout.decode("utf-8", errors="replace")

    def _checked(self, arguments: Sequence[str], failure: str, *, stdin: bytes | None = None) -> CommandOutput:
        done = call(self.run, arguments, ErrorContext(failure), stdin=stdin)
        if done.returncode:
            raise access_error(
                failure, stderr_summary(done.stderr) or "kubectl said nothing", remedy=manual_command(arguments)
            )
        return CommandOutput.of(done, failure)


def list_of(objects: Sequence[KubernetesObject]) -> bytes:
    """Return several objects as one document, for kubectl's standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}).encode()


def _resource_name(thing: KubernetesObject) -> str:
    """Return an object's name as kubectl prints it with --output=name."""
    kind = f"{thing['kind']}.{group_of(thing)}".rstrip(".").lower()
    return f"{kind}/{name_of(thing)}"

"""Access to a cluster's API server by kubectl, with the user's own credentials."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess
from urllib.parse import quote

from confcom.addon.cluster.programs import (
    MAX_STDOUT_BYTES,
    MIB,
    PROGRAM_SECONDS,
    ClusterAccessError,
    Run,
    access_error,
    call,
    failure_reason,
    run_program,
    stderr_summary,
)
from confcom.addon.cluster.unexpected_output import Form, read_objects
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
MOST_ASKED = 100
"""Maximum number of daemons that are asked in one read, each with its own kubectl: helpers that are older than the
published root, or device plugins."""
ASKED_AT_ONCE = 8
"""Concurrent kubectls: each takes a tenth of a second of CPU, and otherwise waits for the API server."""
PROBES_PORT = 8080
"""The port of the daemons' probes, metrics and inventory, as in the chart."""
_AS_JSON = ("--output=json", "--ignore-not-found")


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
        done = call(run, ["kubectl", "config", "current-context"], "the current context cannot be read")
    except ClusterAccessError:
        return cluster
    context = "" if done.returncode else done.stdout.decode("utf-8", errors="replace").strip()
    return dataclasses.replace(cluster, context=context) if context.isprintable() else cluster


@dataclass(frozen=True, slots=True)
class KubeApi:
    """Access to the cluster's objects: each method runs kubectl once.

    If that fails, methods raise ClusterAccessError, or ForbiddenError if the API server denied it. `refusal` and
    `log_tail` never raise, and `patch_node_status` returns why the API server refused the patch.
    """

    cluster: Cluster
    run: Run = run_program

    def server_version(self) -> str:
        """Return the API server's version, as in `v1.36.3`."""
        failure = "the API server cannot be reached"
        (found,) = read_objects(self._run(failure, "version", "--output=json"), failure, Form.OBJECT)
        return text(found, "serverVersion", "gitVersion")

    def list_objects(self, kinds: str, *selection: str) -> tuple[KubernetesObject, ...]:
        """List the objects of one or more kinds (`nodes,pods`)."""
        failure = f"{kinds} cannot be listed"
        return read_objects(self._run(failure, "get", *selection, *_AS_JSON, operands=[kinds]), failure, Form.RESOURCES)

    def raw_answer(self, path: str, failure: str) -> CompletedProcess[bytes]:
        """Return kubectl, which printed what the API server answers for a path, such as a page of a list.

        Args:
            path: with its query.
            failure: the error's text, as in "nodes cannot be listed".
        """
        return self._run(failure, "get", f"--raw={path}")

    def find_namespace(self) -> KubernetesObject | None:
        """Return the add-on's namespace; None if it does not exist."""
        name = self.cluster.namespace
        return self._find(f"the namespace {name} cannot be read", operands=["namespace", name])

    def find_config_map(self, name: str) -> KubernetesObject | None:
        """Return a ConfigMap of the add-on's namespace; None if it does not exist."""
        where = self.cluster.namespace_flag
        return self._find(f"the ConfigMap {name} cannot be read", where, operands=["configmap", name])

    def pod_metrics(self, pod: str, port: int) -> str:
        """Return the /metrics of a pod of the add-on's namespace, through the API server's proxy."""
        done = self._proxied(f"the metrics of {pod} cannot be read", pod, port, "metrics")
        return done.stdout.decode("utf-8", errors="replace")

    def pod_inventory(self, pod: str, port: int) -> KubernetesObject:
        """Return the /inventory of a device plugin's pod, through the API server's proxy."""
        failure = f"the inventory of {pod} cannot be read"
        return read_objects(self._proxied(failure, pod, port, "inventory"), failure, Form.OBJECT)[0]

    def review(self, objects: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
        """Create several reviews in one call, such as SelfSubjectAccessReviews; return the answers in that order."""
        failure = "the user's permissions cannot be checked"
        done = self._run(failure, "create", "--filename=-", "--output=json", stdin=list_of(objects))
        return read_objects(done, failure, Form.RESOURCES)

    def create(self, thing: KubernetesObject) -> None:
        """Create an object."""
        failure = f"{thing['kind']} {thing['metadata']['name']} cannot be created"
        self._run(failure, "create", "--filename=-", stdin=json.dumps(thing).encode())

    def refusal(self, thing: KubernetesObject) -> ProbeAnswer:
        """Return whether admission would refuse an object, and why. Nothing is created."""
        arguments = self.cluster.kubectl("create", "--filename=-", "--dry-run=server", "--output=name")
        failure = "the API server could not check a Pod"
        try:
            done = call(self.run, arguments, failure, stdin=json.dumps(thing).encode())
        except ClusterAccessError as error:
            return ProbeAnswer(doubt=f"{error.what}: {error.why}")
        said = done.stderr.decode("utf-8", errors="replace")
        return ProbeAnswer.read(said, stderr_summary(done.stderr)) if done.returncode else ProbeAnswer()

    def label_node(self, node: str, label: str) -> None:
        """Set a label (`KEY=VALUE`) on a node."""
        self._run(f"the node {node} cannot be labelled", "label", "--overwrite", operands=["node", node, label])

    def patch_node_status(self, node: str, patch: Sequence[Mapping[str, str]]) -> str:
        """Apply a JSON patch to a node's status; return why it was refused, or an empty string."""
        flags = ["--subresource=status", "--type=json", f"--patch={json.dumps(list(patch))}"]
        arguments = self.cluster.kubectl("patch", *flags, operands=["node", node])
        done = call(self.run, arguments, f"the status of the node {node} cannot be changed")
        return failure_reason(done) if done.returncode else ""

    def delete(self, kind: str, names: Sequence[str], *, namespace: str = "") -> None:
        """Delete objects of a kind by name; missing objects are ignored.

        Args:
            kind: the manifests' `kind`, with its group (`Role.rbac.authorization.k8s.io`).
            names: at least one name.
            namespace: empty for cluster-wide kinds.
        """
        flags = [*_in(namespace), "--ignore-not-found", "--wait=false"]
        self._run(f"{kind} {', '.join(names)} cannot be deleted", "delete", *flags, operands=[kind, *names])

    def end_job(self, name: str) -> None:
        """Make a Job of the add-on's namespace fail within a second, by its activeDeadlineSeconds."""
        flags = [self.cluster.namespace_flag, f"--patch={json.dumps({'spec': {'activeDeadlineSeconds': 1}})}"]
        self._run(f"the Job {name} cannot be ended", "patch", *flags, operands=["job", name])

    def exists(self, kind: str, name: str) -> bool:
        """Return whether an object exists in the add-on's namespace; its content is not read."""
        failure, where = f"{kind} {name} cannot be read", self.cluster.namespace_flag
        done = self._run(failure, "get", where, "--output=name", "--ignore-not-found", operands=[kind, name])
        return bool(read_objects(done, failure, Form.NAMES))

    def missing(self, things: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
        """Return the objects that are not in the cluster; their contents are not read.

        Args:
            things: manifests; those without a namespace are looked up in the add-on's.
        """
        if not things:
            return ()
        failure, named = "the installed objects cannot be read", self.named(things)
        done = self._run(failure, "get", "--filename=-", "--output=name", "--ignore-not-found", stdin=named)
        found = {(one["kind"], name_of(one)) for one in read_objects(done, failure, Form.NAMES)}
        return tuple(one for one in things if (_with_group(one).lower(), name_of(one)) not in found)

    def patch(self, thing: KubernetesObject, patch: Sequence[Mapping[str, object]]) -> None:
        """Apply a JSON patch to an object."""
        failure, operands = f"{thing['kind']} {name_of(thing)} cannot be patched", [_with_group(thing), name_of(thing)]
        flags = [*_in(namespace_of(thing)), "--type=json", f"--patch={json.dumps(patch)}"]
        self._run(failure, "patch", *flags, operands=operands)

    def named(self, things: Sequence[KubernetesObject]) -> bytes:
        """Return for kubectl's standard input what identifies objects; the add-on's namespace is the default."""
        return list_of(
            {
                "apiVersion": one["apiVersion"],
                "kind": one["kind"],
                "metadata": {"name": name_of(one), "namespace": namespace_of(one) or self.cluster.namespace},
            }
            for one in things
        )

    def log_tail(self, pod: str, lines: int) -> str:
        """Return the last lines of the log of a pod of the namespace; empty if it cannot be read."""
        flags, failure = [self.cluster.namespace_flag, f"--tail={lines}"], f"the log of {pod} cannot be read"
        command = self.cluster.kubectl("logs", *flags, "--all-containers=false", operands=[pod])
        try:
            done = call(self.run, command, failure, timeout=LOG_SECONDS, most=MAX_LOG_BYTES)
        except ClusterAccessError:
            return ""
        return "" if done.returncode else done.stdout.decode("utf-8", errors="replace")

    def _proxied(self, failure: str, pod: str, port: int, page: str) -> CompletedProcess[bytes]:
        namespace, name = (quote(one, safe="") for one in (self.cluster.namespace, pod))
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/{page}"
        return self._run(failure, "get", f"--raw={path}", timeout=LOG_SECONDS, most=MAX_LOG_BYTES)

    def _find(self, failure: str, *flags: str, operands: Sequence[str]) -> KubernetesObject | None:
        found = read_objects(self._run(failure, "get", *flags, *_AS_JSON, operands=operands), failure, Form.RESOURCE)
        return found[0] if found else None

    def _run(
        self,
        failure: str,
        *arguments: str,
        operands: Sequence[str] = (),
        stdin: bytes | None = None,
        timeout: float = PROGRAM_SECONDS,
        most: int = MAX_STDOUT_BYTES,
    ) -> CompletedProcess[bytes]:
        command = self.cluster.kubectl(*arguments, operands=operands)
        done = call(self.run, command, failure, stdin=stdin, timeout=timeout, most=most)
        if done.returncode:
            raise access_error(done, failure)
        return done


def list_of(objects: Iterable[KubernetesObject]) -> bytes:
    """Return several objects as one document, for kubectl's standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}).encode()


def _with_group(thing: KubernetesObject) -> str:
    """Return an object's kind with its group, as kubectl takes it, and prints it in lower case."""
    return f"{thing['kind']}.{group_of(thing)}".rstrip(".")


def _in(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []

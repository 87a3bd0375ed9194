"""The add-on's Helm release. The methods of `Helm` run helm with the credentials of the logged-in user."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import IO, Any, Self

from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.chart_objects import workloads_in
from confcom.addon.login import Cluster, not_run, not_understood
from confcom.errors import ConfcomError, ExitCode, shortened
from confcom.kubernetes.names import RELEASE
from confcom.kubernetes.objects import KubernetesObject, mapping, number, text, time_of
from confcom.kubernetes.workload import Workload

HELM_SECONDS = 300.0
"""Timeout of a run of helm. Since helm waits for no Pods, it takes seconds (minutes if the API is slow)."""
INTERRUPTED_SECONDS = 15.0
"""Time that helm gets to end after an interruption; it completes a change in 2 s and leaves no pending revision."""
OVERWRITE = ("--server-side=true", "--force-conflicts")
"""Flags with which helm overwrites fields of its manifests even if another manager has written them."""
_NOT_OURS = re.compile("HELM_KUBE|HELM_NAMESPACE")
"""Environment variables that could make helm use another cluster, user or namespace than kubectl does."""
_CHART_AT_FAULT = re.compile(
    "execution error at|values don't meet|failed to load|chart|template|parse|YAML", re.IGNORECASE
)
"""Words in helm's message that blame the values or the chart; if all are absent, the cluster is at fault."""
_CHART_REFUSAL = re.compile(
    r"confcom: (?P<what>.+?)\n\s+why: (?P<why>.+?)\n\s+do: +(?P<do>.+?)(\n\n|\Z)(\s*code: (?P<code>[a-z-]+))?",
    re.DOTALL,
)
"""The chart's own error messages."""
_CONTINUATION = re.compile(r"\n {8,}")
"""A line of a remedy with this indent is a command that belongs to the line before; less indent begins a new remedy."""
_ROLLED_BACK = re.compile(r"Rollback to ([0-9]{1,9})")
"""A rollback's description has the copied revision's number, which helm before 4.3.0 records nowhere else."""
_NOT_APPLIED = re.compile(r'(Release|Upgrade|Rollback) "[^"]*" failed|Preparing upgrade|Initial install underway')
"""Descriptions of revisions that were not applied completely, even if a later rollback marks them as superseded."""
_LOOKED_UP = "error calling lookup: "
"""Words in helm's message between the location in a template and the text of the API server's refusal."""
_LOG_LINE = re.compile(r"[IWEF][0-9]{4} |(time=|level=)")


class HelmError(ConfcomError):
    """Helm failed; the error quotes helm's message."""

    error_code = "helm-failed"


class ChartError(ConfcomError):
    """The chart refuses the values, or cannot be read."""

    error_code = "chart-values-refused"
    exit_code = ExitCode.USAGE


Done = subprocess.CompletedProcess[bytes]
RunsHelm = Callable[[Sequence[str], bytes], Done]
"""The type of `run_helm`; tests replace this function with a helm in memory."""


@dataclass(frozen=True, slots=True)
class Values:
    """Values for the chart: the user's --values, --set and --set-string, and the values stored in the release."""

    files: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    stored: KubernetesObject = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """The values as flags for helm; helm reads the stored values from its stdin."""
        sets = [*(f"--set={one}" for one in self.settings), *(f"--set-string={one}" for one in self.texts)]
        return ["--values=-", *(f"--values={path}" for path in self.files), *sets]


@dataclass(frozen=True, slots=True)
class Revision:
    number: int
    status: str
    description: str = ""
    updated: datetime | None = None
    """The time when the change that made this revision began; None if unknown."""
    copy_of: int = 0
    """The number of the revision that a rollback copied to make this one; 0 if this revision is no copy."""

    @classmethod
    def parse(cls, found: KubernetesObject) -> Self:
        updated = time_of(text(found, "updated"))
        copied = _ROLLED_BACK.fullmatch(text(found, "description"))
        return cls(
            number=number(found, "revision"),
            status=text(found, "status"),
            description=text(found, "description"),
            updated=updated.astimezone(UTC) if updated else None,
            copy_of=number(found, "rollback_revision") or (int(copied[1]) if copied else 0),
        )

    @property
    def is_deployed(self) -> bool:
        """Whether helm has applied this revision completely, and has applied no later revision."""
        return self.status == "deployed"

    @property
    def was_applied(self) -> bool:
        return self.status in {"deployed", "superseded"} and not _NOT_APPLIED.match(self.description)

    @property
    def is_unfinished(self) -> bool:
        """Whether helm began this revision and did not finish it: helm still runs, or was killed."""
        return self.status.startswith("pending-") or self.status == "uninstalling"

    @property
    def described(self) -> str:
        since = f" since {self.updated:%Y-%m-%d %H:%M:%S} UTC" if self.updated else ""
        return f"revision {self.number} is {self.status}{since}"


@dataclass(frozen=True, slots=True)
class Rendering:
    manifests: tuple[KubernetesObject, ...]
    config: KubernetesObject
    """The user's values, without the chart's defaults, as helm would store them in the release."""

    @property
    def workloads(self) -> tuple[Workload, ...]:
        return workloads_in(self.manifests)


def chart_folder() -> Path:
    return Path(str(resources.files("confcom.addon") / "chart")).resolve()


def run_helm(arguments: Sequence[str], stdin: bytes) -> Done:
    """Run helm in its own session, with files as outputs: helm survives Ctrl-C, a killed confcom, and a closed pipe.

    After an interruption, wait a while for helm to end by itself, so that it records the release correctly.
    """
    environment = {name: value for name, value in os.environ.items() if not _NOT_OURS.match(name)}
    with contextlib.ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            arguments, stdin=given, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        try:
            process.wait(HELM_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPTED_SECONDS)
            process.send_signal(signal.SIGINT)  # has no effect if helm has ended
            raise
        return Done(arguments, process.returncode, _printed(out), _printed(err))


def _printed(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


@dataclass(frozen=True, slots=True)
class Helm:
    cluster: Cluster
    run: RunsHelm = run_helm

    def version(self) -> str:
        done = self._call("helm cannot be run", "version", "--short", operands=())
        return done.stdout.decode(errors="replace").strip()

    def history(self) -> tuple[Revision, ...]:
        """Return the release's revisions, oldest first; empty if the release is not installed."""
        failure = "the release cannot be read"
        done = self._call(failure, "history", "--output=json")
        if done.returncode and b"release: not found" in done.stderr:
            return ()
        return tuple(map(Revision.parse, _parsed(failure, done) or ()))

    def values(self) -> KubernetesObject:
        failure = "the release's values cannot be read"
        return _parsed(failure, self._call(failure, "get", "values", "--output=json")) or {}

    def manifests(self, revision: int | None = None) -> tuple[KubernetesObject, ...]:
        failure = "the release's manifests cannot be read"
        which = [] if revision is None else [f"--revision={revision}"]
        return _manifests(failure, _output(failure, self._call(failure, "get", "manifest", *which)))

    def render(self, chart: Path, values: Values) -> Rendering:
        """Return the manifests that helm would install on this API server, and the values to store."""
        failure = "the chart cannot be rendered"
        done = self._upgrade(failure, chart, values, "--dry-run=server", "--output=json")
        if done.returncode:
            raise _rendering_error(done)
        found = _parsed(failure, done)
        return Rendering(_manifests(failure, text(found, "manifest").encode()), mapping(found, "config"))

    def upgrade(self, chart: Path, values: Values) -> None:
        """Install or upgrade the release; do not wait for its Pods. A HelmError may leave the release half changed."""
        failure = "helm could not install the chart"
        self._check(failure, self._upgrade(failure, chart, values, *(OVERWRITE if self.history() else ())))

    def rollback(self, revision: int) -> None:
        failure = f"helm could not roll back to revision {revision}"
        self._check(failure, self._call(failure, "rollback", *OVERWRITE, operands=(RELEASE, str(revision))))

    def uninstall(self) -> None:
        """Remove the release, without waiting until its Pods have ended."""
        failure = "helm could not remove the release"
        self._check(failure, self._call(failure, "uninstall", "--ignore-not-found"))

    def _upgrade(self, failure: str, chart: Path, values: Values, *flags: str) -> Done:
        every = ["--install", "--reset-values", *values.flags, *flags]
        stored = json.dumps(values.stored).encode()  # JSON is valid YAML
        return self._call(failure, "upgrade", *every, operands=(RELEASE, str(chart)), stdin=stored)

    def _check(self, failure: str, done: Done) -> None:
        if done.returncode:
            record = f"helm history {RELEASE} --namespace={self.cluster.namespace}"
            raise HelmError(
                failure, why=shortened(_words(done)), remedy=f"the same command again continues; see {record}"
            )

    def _call(self, failure: str, *arguments: str, operands: Sequence[str] = (RELEASE,), stdin: bytes = b"") -> Done:
        """Run helm; `--` precedes the operands, so that helm does not read an operand as a flag."""
        flags = [f"--namespace={self.cluster.namespace}", *self.cluster.login.helm_flags()]
        try:
            return self.run(["helm", *arguments, *flags, "--", *operands], stdin)
        except OSError as error:
            raise not_run(failure, "helm", error) from error
        except subprocess.TimeoutExpired as error:
            raise ClusterAccessError(failure, why=f"helm did not end within {HELM_SECONDS:.0f} s") from error


def _output(failure: str, done: Done) -> bytes:
    if done.returncode:
        raise _failed(failure, _words(done))
    return done.stdout


def _failed(failure: str, words: str) -> ClusterAccessError:
    words = words.rpartition(_LOOKED_UP)[2]
    return (ForbiddenError if "forbidden" in words else ClusterAccessError)(failure, why=shortened(words))


def _words(done: Done) -> str:
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    telling = dict.fromkeys(line for line in lines if not _LOG_LINE.match(line))
    words = " ".join(" ".join(telling).split()).removeprefix("Error: ")
    return words or f"helm exited with {done.returncode} and said nothing"


def _parsed(failure: str, done: Done) -> Any:  # noqa: ANN401 # JSON
    try:
        return json.loads(_output(failure, done))
    except ValueError as error:
        raise not_understood(failure, "helm", error) from error


def _manifests(failure: str, stream: bytes) -> tuple[KubernetesObject, ...]:
    import yaml  # noqa: PLC0415 # the import takes 20 ms, and most commands do not need yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = tuple(one for one in yaml.load_all(stream, Loader=loader) if one is not None)
    except yaml.YAMLError as error:
        raise not_understood(failure, "helm", error) from error
    if not all(isinstance(one, dict) and text(one, "kind") and text(one, "apiVersion") for one in found):
        raise not_understood(failure, "helm", ValueError("a document is no Kubernetes object"))
    return found


def _rendering_error(done: Done) -> ConfcomError:
    if explained := _CHART_REFUSAL.search(done.stderr.decode("utf-8", errors="replace")):
        what, why = (" ".join(explained[part].split()).rstrip(".") for part in ("what", "why"))
        what = what.removeprefix("nothing was changed, because ").removeprefix("nothing was installed, because ")
        remedy = "; ".join(map(str.strip, _CONTINUATION.sub(" ", explained["do"]).splitlines()))
        code = explained["code"] or ""
        return ChartError(f"the chart refuses these values: {what}", error_code=code, why=why, remedy=remedy)
    words = _words(done)
    if "forbidden" in words or _LOOKED_UP in words or not _CHART_AT_FAULT.search(words):
        return _failed("the chart cannot be rendered", words)
    remedy = "see the values and their reasons: helm show values CHART"
    return ChartError("the chart refuses these values", why=shortened(words), remedy=remedy)

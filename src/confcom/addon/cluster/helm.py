"""Helm for the add-on's release: each method runs helm once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from subprocess import CompletedProcess

from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.programs import MIB, ClusterAccessError, Run, access_error, call, failure_reason, run_program
from confcom.addon.cluster.unexpected_output import Form, read_objects
from confcom.addon.model.chart_objects import ADD_ON
from confcom.addon.release.revision_history import Revision
from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, text

RELEASE = ADD_ON
HELM_SECONDS = 300
"""Helm's timeout for its hooks: the Job that creates the simulated root has 240 s, image pulls included."""
_TIMEOUT = f"--timeout={HELM_SECONDS}s"
GRACE_SECONDS = 60.0
"""Added to helm's own timeout, so that helm's error explains what it waited for."""
MAX_HELM_BYTES = 64 * MIB
"""Limit of helm's output. A release is stored compressed in a Secret of at most 1 MiB; a chart's text compresses to no
less than a tenth of its size."""
_CHART_AT_FAULT = re.compile(
    "execution error at|values don't meet|failed to load|chart|template|parse|YAML", re.IGNORECASE
)
"""Matches helm's message if the values or the chart are the cause; otherwise the cluster is."""
_BUSY = re.compile("another operation|release: already exists|cannot re-?use a name that is still in use")
"""Matches helm's message if another change has begun: it is pending, or was recorded after this helm's check."""
_CHART_REFUSAL = re.compile(
    r"confcom: (?P<what>.+?)\n\s+why: (?P<why>.+?)\n\s+do: +(?P<do>.+?)(\n\n|\Z)(\s*code: (?P<code>[a-z-]+))?",
    re.DOTALL,
)
"""Matches the chart's own error messages."""
_CONTINUATION = re.compile(r"\n {8,}")
"""The indent of a command, which continues the line before it; a line with less indent is another piece of advice."""


class ChartError(ConfcomError):
    """The chart refuses the values, or cannot be read."""

    error_code = "chart-values-refused"
    exit_code = ExitCode.USAGE


class HelmError(ConfcomError):
    """Helm failed."""

    error_code = "helm-failed"


class HookError(HelmError):
    """A hook of the release failed, which helm runs before it changes anything else."""

    error_code = "hook-failed"


class UnfinishedError(HelmError):
    """An earlier change of the release was interrupted, and helm makes no other change before it is undone."""

    error_code = "removal-interrupted"
    exit_code = ExitCode.REFUSED


class BusyError(UnfinishedError):
    """Another change of the release is in progress, or was interrupted; or one was recorded at the same moment."""

    error_code = "other-change"


@dataclass(frozen=True, slots=True)
class Values:
    """The chart's values that the user sets.

    Args:
        files: values files; later ones override earlier ones and the stored values.
        settings: `KEY=VALUE` as for helm's --set; they override the files.
        texts: the same for --set-string, whose values are always strings.
        stored: the values of the release so far.
    """

    files: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    stored: KubernetesObject = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """Helm's flags; helm reads the stored values from its standard input."""
        sets = [*(f"--set={one}" for one in self.settings), *(f"--set-string={one}" for one in self.texts)]
        return ["--values=-", *(f"--values={_one_of_a_list(str(path))}" for path in self.files), *sets]


def _one_of_a_list(path: str) -> str:
    """Return a path quoted for helm's --values, which parses its value as a line of CSV."""
    return f'"{path.replace(chr(34), chr(34) * 2)}"' if {",", '"'} & set(path) else path


def chart_folder() -> Path:
    """Return the folder of the chart that is part of this program."""
    folder = Path(str(resources.files("confcom.addon") / "chart"))
    if not (folder / "Chart.yaml").is_file():
        raise UnavailableError(
            "the chart is missing",
            error_code="chart-not-found",
            why=f"there is no {folder / 'Chart.yaml'}",
            remedy="install confcom from a wheel or a complete checkout, or name a chart with --chart",
        )
    return folder.resolve()


@dataclass(frozen=True, slots=True)
class Rendering:
    """What helm would install.

    Args:
        manifests: the release's objects, without hooks.
        hooks: objects that exist only while helm runs.
        config: the values that are set in addition to the chart's defaults, as the release would store them.
    """

    manifests: tuple[KubernetesObject, ...]
    hooks: tuple[KubernetesObject, ...]
    config: KubernetesObject


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm for one release."""

    cluster: Cluster
    run: Run = run_program
    seconds: float = HELM_SECONDS + GRACE_SECONDS

    def version(self) -> str:
        """Return helm's version, as in `v4.3.1`."""
        where = "https://helm.sh/docs/intro/install/"
        command = ["helm", "version", "--short"]
        done = call(self.run, command, "the chart cannot be installed", without_program=where)
        return done.stdout.decode(errors="replace").strip()

    def history(self) -> tuple[Revision, ...]:
        """Return the release's revisions, oldest first; empty if it is not installed."""
        failure = "the release cannot be read"
        done = self._call(failure, "history", "--output=json")
        if done.returncode and b"release: not found" in done.stderr:
            return ()
        if done.returncode:
            raise access_error(done, failure)
        return tuple(map(Revision.parse, read_objects(done, failure, Form.REVISIONS)))

    def values(self) -> KubernetesObject:
        """Return the chart's values that the user set for the release.

        Raises:
            HelmError: they cannot be read.
            ClusterAccessError: the output is not helm's.
        """
        return self._get("values", "--output=json", form=Form.OBJECT_OR_NULL)[0]

    def installed(self, revision: int | None = None) -> tuple[KubernetesObject, ...]:
        """Return the manifests of a revision, or of the current one, without hooks; errors are those of `values`."""
        return self._get("manifest", *([] if revision is None else [f"--revision={revision}"]))

    def hooks(self) -> tuple[KubernetesObject, ...]:
        """Return the hooks, of which those that failed may be in the cluster; errors are those of `values`."""
        return self._get("hooks")

    def render(self, chart: Path, values: Values) -> Rendering:
        """Return what would be installed; helm asks the API server which APIs it serves. Nothing is changed.

        Raises:
            ChartError: the chart refuses the values, or cannot be read.
            UnfinishedError: an earlier change was interrupted.
            ClusterAccessError: the current release cannot be looked up.
        """
        failure = "the chart cannot be rendered"
        done = self._upgrade(failure, chart, values, "--dry-run=server", "--output=json")
        if done.returncode:
            raise self._rendering_error(done)
        (found,) = read_objects(done, failure, Form.OBJECT)
        streams = [text(one, "manifest").encode(errors="surrogatepass") for one in (found, *listing(found, "hooks"))]
        manifests, *hooks = (
            read_objects(CompletedProcess(done.args, 0, one), failure, Form.MANIFESTS) for one in streams
        )
        return Rendering(manifests, tuple(chain.from_iterable(hooks)), mapping(found, "config"))

    def upgrade(self, chart: Path, values: Values, force: Sequence[str] = ()) -> None:
        """Install or upgrade the release, and wait only for its hooks.

        Args:
            chart: the chart's folder or archive.
            values: the values that the user sets.
            force: flags that make helm overwrite the changes of other managers.

        Raises:
            HelmError: it failed; the release is as helm left it.
        """
        failure = "the chart could not be installed"
        self._check(failure, self._upgrade(failure, chart, values, *force))

    def rollback(self, revision: int, force: Sequence[str] = ()) -> None:
        """Roll the release back to a revision with this number; flags and errors are those of `upgrade`."""
        failure = f"the release could not be rolled back to revision {revision}"
        self._check(failure, self._call(failure, "rollback", _TIMEOUT, *force, operands=(RELEASE, str(revision))))

    def uninstall(self) -> None:
        """Remove the release, without waiting for the end of its pods; errors are those of `upgrade`."""
        failure = "the release could not be removed"
        self._check(failure, self._call(failure, "uninstall", _TIMEOUT, "--ignore-not-found"))

    def _get(self, part: str, *flags: str, form: Form = Form.MANIFESTS) -> tuple[KubernetesObject, ...]:
        failure = f"the release's {part} cannot be read"
        done = self._call(failure, "get", part, *flags)
        self._check(failure, done)
        return read_objects(done, failure, form)

    def _upgrade(self, failure: str, chart: Path, values: Values, *flags: str) -> CompletedProcess[bytes]:
        every = ["--install", "--reset-values", _TIMEOUT, *values.flags, *flags]
        stored = json.dumps(values.stored).encode()  # JSON is valid YAML
        return self._call(failure, "upgrade", *every, operands=(RELEASE, str(chart)), stdin=stored)

    def _call(
        self, failure: str, *arguments: str, operands: Sequence[str] = (RELEASE,), stdin: bytes | None = None
    ) -> CompletedProcess[bytes]:
        """Run helm with a command and flags; operands follow `--`, so that helm cannot read them as flags."""
        context = [f"--kube-context={self.cluster.context}"] if self.cluster.context else []
        command = ["helm", *arguments, self.cluster.namespace_flag, *context, "--", *operands]
        return call(self.run, command, failure, stdin=stdin, timeout=self.seconds, most=MAX_HELM_BYTES)

    def _check(self, failure: str, done: CompletedProcess[bytes]) -> None:
        if done.returncode:
            raise self._error(failure, failure_reason(done))

    def _error(self, failure: str, why: str) -> HelmError:
        where = self.cluster.namespace_flag
        if _BUSY.search(why):
            return BusyError(failure, why=why, remedy="see `confcom status`")
        if "has no deployed releases" in why:
            remedy = "run `confcom disable` again to complete the interrupted removal, then `confcom enable`"
            return UnfinishedError(failure, why=why, remedy=remedy)
        if "pre-upgrade" in why or "pre-rollback" in why:
            remedy = "the daemons run unchanged; `confcom rollback` restores the previous release"
            return HookError(failure, why=why, remedy=remedy)
        if "simulated-root" in why or "pre-install" in why:
            remedy = f"see why the Job failed: kubectl describe jobs,pods {where} -l app.kubernetes.io/name={ADD_ON}"
            return HookError(failure, why=why, remedy=remedy)
        return HelmError(failure, why=why, remedy=f"see helm history {RELEASE} {where}")

    def _rendering_error(self, done: CompletedProcess[bytes]) -> ConfcomError:
        if explained := _CHART_REFUSAL.search(done.stderr.decode("utf-8", errors="replace")):
            what, why = (" ".join(explained[part].split()).rstrip(".") for part in ("what", "why"))
            what = what.removeprefix("nothing was changed, because ").removeprefix("nothing was installed, because ")
            remedy = "; ".join(map(str.strip, _CONTINUATION.sub(" ", explained["do"]).splitlines()))
            code = explained["code"] or ""
            return ChartError(f"the chart refuses these values: {what}", error_code=code, why=why, remedy=remedy)
        why = failure_reason(done)
        error = self._error("helm cannot change the release", why)
        if isinstance(error, UnfinishedError):
            return error
        if "forbidden" in why or not _CHART_AT_FAULT.search(why):
            return ClusterAccessError("helm cannot read the release", why=why)
        remedy = "see the values and their reasons: helm show values CHART"
        return ChartError("the chart refuses these values", why=why, remedy=remedy)

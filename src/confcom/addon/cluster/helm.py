"""Helm for the add-on's release: each method runs helm once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from subprocess import CompletedProcess

from confcom.addon.cluster.command_output import CommandOutput
from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.programs import (
    MIB,
    ClusterAccessError,
    ErrorContext,
    Run,
    access_error,
    call,
    run_program,
    stderr_summary,
)
from confcom.addon.model.chart_objects import ADD_ON
from confcom.addon.release.history import Revision
from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, text

RELEASE = ADD_ON
HELM_SECONDS = 300
"""Helm's timeout for its hooks: the Job that creates the simulated root has 240 s, image pulls included."""
_GRACE_SECONDS = 60.0
"""Added to helm's own timeout, so that helm's error explains what it waited for."""
MAX_HELM_BYTES = 64 * MIB
"""Limit of helm's output. A release is stored compressed in a Secret of at most 1 MiB; a chart's text compresses to no
less than a tenth of its size."""
_DRY = ("--dry-run=server", "--output=json")
_CHART_AT_FAULT = re.compile(
    "execution error at|values don't meet|failed to load|chart|template|parse|YAML", re.IGNORECASE
)
"""Matches helm's message if the values or the chart are the cause; otherwise the cluster is."""
_BUSY = re.compile("another operation|release: already exists|cannot re-?use a name that is still in use")
"""Matches helm's message if another change has begun: it is pending, or was recorded after this helm's check."""
_CHART_REFUSAL = re.compile(r"confcom: (?P<what>.+?)\n\s+why: (?P<why>.+?)\n\s+do: +(?P<do>.+?)(\n\n|\Z)", re.DOTALL)
"""Matches the chart's own error messages."""
_CONTINUATION = re.compile(r"\n {8,}")
"""The indent of a command, which continues the line before it; a line with less indent is another piece of advice."""


class ChartError(ConfcomError):
    """The chart refuses the values, or cannot be read."""

    exit_code = ExitCode.USAGE


class HelmError(ConfcomError):
    """Helm failed."""


class UnfinishedError(HelmError):
    """An earlier change of the release was interrupted, and helm makes no other change before it is undone."""

    exit_code = ExitCode.REFUSED


class BusyError(UnfinishedError):
    """Another change of the release is in progress, or was interrupted; or one was recorded at the same moment."""


@dataclass(frozen=True, slots=True)
class Values:
    """The chart's values that the user sets.

    Args:
        stored: the values of the release so far.
        files: values files; later ones override earlier ones and the stored values.
        settings: `KEY=VALUE` as for helm's --set; they override the files.
        texts: the same for --set-string.
    """

    stored: KubernetesObject
    files: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """Helm's flags; helm reads the stored values from its standard input."""
        sets = [*(f"--set={one}" for one in self.settings), *(f"--set-string={one}" for one in self.texts)]
        return ["--values=-", *(f"--values={_one_of_a_list(str(path))}" for path in self.files), *sets]

    @property
    def stdin(self) -> bytes:
        """The stored values as JSON, which is valid YAML."""
        return json.dumps(self.stored).encode()


def _one_of_a_list(path: str) -> str:
    """Return a path quoted for helm's --values, which parses its value as a line of CSV."""
    return f'"{path.replace(chr(34), chr(34) * 2)}"' if {",", '"'} & set(path) else path


def chart_folder() -> Path:
    """Return the folder of the chart that is part of this program.

    Raises:
        UnavailableError: it is missing from this installation.
    """
    folder = Path(str(resources.files("confcom.addon") / "chart"))
    if not (folder / "Chart.yaml").is_file():
        raise UnavailableError(
            "the chart is missing",
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
    """Helm for one release.

    Args:
        cluster: where the release is.
        run: runs one program.
    """

    cluster: Cluster
    run: Run = run_program

    def version(self) -> str:
        """Return helm's version, as in `v4.3.1`.

        Raises:
            ClusterAccessError: there is no helm.
        """
        error_context = ErrorContext(
            "the chart cannot be installed", without_program="https://helm.sh/docs/intro/install/"
        )
        done = call(self.run, ["helm", "version", "--short"], error_context)
        return done.stdout.decode(errors="replace").strip()

    def history(self) -> tuple[Revision, ...]:
        """Return the release's revisions, oldest first; empty if it is not installed.

        Raises:
            ClusterAccessError: they cannot be read.
        """
        done = self._call("history", "--output=json", operands=[RELEASE], failure="the release cannot be looked up")
        if done.returncode:
            if b"release: not found" in done.stderr:
                return ()
            raise access_error("the release cannot be looked up", stderr_summary(done.stderr) or "helm said nothing")
        answer = CommandOutput.of(done, "the release cannot be looked up")
        try:
            return tuple(map(Revision.parse, answer.mappings()))
        except ValueError as error:
            raise answer.unreadable("the release's revisions", str(error)) from error

    def values(self) -> KubernetesObject:
        """Return the chart's values that the user set for the release.

        Raises:
            HelmError: they cannot be read.
            ClusterAccessError: the output is not helm's; `installed` and `hooks` raise it too.
        """
        failure = "the release's values cannot be read"
        return self._checked("get", "values", "--output=json", operands=[RELEASE], failure=failure).mapping_or_null()

    def installed(self, revision: int | None = None) -> tuple[KubernetesObject, ...]:
        """Return the release's manifests without hooks.

        Args:
            revision: the number of the revision; None: the current one.

        Raises:
            HelmError: they cannot be read.
        """
        failure = "the release's manifests cannot be read"
        which = [] if revision is None else [f"--revision={revision}"]
        return self._checked("get", "manifest", *which, operands=[RELEASE], failure=failure).manifests()

    def hooks(self) -> tuple[KubernetesObject, ...]:
        """Return the release's hooks; those that failed may still be in the cluster.

        Raises:
            HelmError: they cannot be read.
        """
        failure = "the release's hooks cannot be read"
        return self._checked("get", "hooks", operands=[RELEASE], failure=failure).manifests()

    def render(self, chart: Path, values: Values) -> Rendering:
        """Return what would be installed; helm asks the API server which APIs it serves. Nothing is changed.

        Args:
            chart: the chart's folder or archive.
            values: the values that the user sets.

        Raises:
            ChartError: the chart refuses the values, or cannot be read.
            UnfinishedError: an earlier change was interrupted.
            ClusterAccessError: the current release cannot be looked up.
        """
        failure = "the chart cannot be rendered"
        done = self._upgrade(chart, values, _DRY, failure=failure)
        if done.returncode:
            raise _rendering_error(done.stderr)
        answer = CommandOutput.of(done, failure)
        found = answer.mapping()
        streams = [text(one, "manifest") for one in (found, *listing(found, "hooks"))]
        manifests, *hooks = (answer.within(one).manifests() for one in streams)
        return Rendering(
            manifests=manifests,
            hooks=tuple(one for several in hooks for one in several),
            config=mapping(found, "config"),
        )

    def upgrade(self, chart: Path, values: Values, force: Sequence[str] = ()) -> None:
        """Install or upgrade the release, and wait only for its hooks.

        Args:
            chart: the chart's folder or archive.
            values: the values that the user sets.
            force: flags that make helm overwrite the changes of other managers (`confcom.addon.operations.overwrite`).

        Raises:
            HelmError: it failed; the release is as helm left it.
        """
        failure = "the chart could not be installed"
        self._check_exit_code(self._upgrade(chart, values, force, failure=failure), failure)

    def rollback(self, revision: int, force: Sequence[str] = ()) -> None:
        """Roll the release back to a revision.

        Args:
            revision: its number.
            force: as for `upgrade`.

        Raises:
            HelmError: it failed.
        """
        failure = f"the release could not be rolled back to revision {revision}"
        flags = [f"--timeout={HELM_SECONDS}s", *force]
        self._checked("rollback", *flags, operands=[RELEASE, str(revision)], failure=failure)

    def uninstall(self) -> None:
        """Remove the release, without waiting for the end of its pods.

        Raises:
            HelmError: it failed.
        """
        flags = ["--ignore-not-found", f"--timeout={HELM_SECONDS}s"]
        self._checked("uninstall", *flags, operands=[RELEASE], failure="the release could not be removed")

    def _upgrade(self, chart: Path, values: Values, flags: Sequence[str], *, failure: str) -> CompletedProcess[bytes]:
        every = ["--install", "--reset-values", f"--timeout={HELM_SECONDS}s", *values.flags, *flags]
        return self._call("upgrade", *every, operands=[RELEASE, str(chart)], failure=failure, stdin=values.stdin)

    def _call(
        self, *arguments: str, operands: Sequence[str], failure: str, stdin: bytes | None = None
    ) -> CompletedProcess[bytes]:
        """Run helm with a command and flags; operands follow `--`, so that helm cannot read them as flags."""
        context = [f"--kube-context={self.cluster.context}"] if self.cluster.context else []
        command = ["helm", *arguments, self.cluster.namespace_flag, *context, "--", *operands]
        seconds = HELM_SECONDS + _GRACE_SECONDS
        return call(self.run, command, ErrorContext(failure), stdin=stdin, timeout=seconds, most=MAX_HELM_BYTES)

    def _checked(self, *arguments: str, operands: Sequence[str], failure: str) -> CommandOutput:
        return self._check_exit_code(self._call(*arguments, operands=operands, failure=failure), failure)

    def _check_exit_code(self, done: CompletedProcess[bytes], failure: str) -> CommandOutput:
        if done.returncode:
            why = stderr_summary(done.stderr) or "helm said nothing"
            if unfinished := _unfinished(failure, why):
                raise unfinished
            raise HelmError(failure, why=why, remedy=_remedy(why, self.cluster))
        return CommandOutput.of(done, failure)


def _unfinished(failure: str, why: str) -> UnfinishedError | None:
    """Return the error about another change if that is why helm failed, else None."""
    if _BUSY.search(why):
        return BusyError(failure, why=why, remedy="see `confcom status`")
    if "has no deployed releases" in why:
        remedy = "`confcom disable`, which was interrupted, finishes its work; then `confcom enable`"
        return UnfinishedError(failure, why=why, remedy=remedy)
    return None


def _remedy(why: str, cluster: Cluster) -> str:
    if "pre-upgrade" in why or "pre-rollback" in why:
        return "the daemons go on as they were; `confcom rollback` puts the release back to what it was"
    if "simulated-root" in why or "pre-install" in why:
        return (
            f"see why the Job failed: kubectl describe jobs,pods {cluster.namespace_flag} "
            f"-l app.kubernetes.io/name={ADD_ON}"
        )
    return f"see helm history {RELEASE} {cluster.namespace_flag}"


def _rendering_error(stderr: bytes) -> ConfcomError:
    said = stderr.decode("utf-8", errors="replace")
    if explained := _CHART_REFUSAL.search(said):
        what, why = (" ".join(explained[part].split()) for part in ("what", "why"))
        do = _CONTINUATION.sub(" ", explained["do"])
        do = "; ".join(line.strip() for line in do.splitlines())
        what = what.removeprefix("nothing was changed, because ").removeprefix("nothing was installed, because ")
        return ChartError(f"the chart refuses these values: {what.rstrip('.')}", why=why.rstrip("."), remedy=do)
    why = stderr_summary(stderr) or "helm said nothing"
    if unfinished := _unfinished("helm cannot change the release", why):
        return unfinished
    if "forbidden" in why or not _CHART_AT_FAULT.search(why):
        return ClusterAccessError("helm cannot look up the release", why=why)
    return ChartError(
        "the chart refuses these values", why=why, remedy="see the values and their reasons: helm show values CHART"
    )

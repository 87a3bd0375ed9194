"""The add-on's release, each call one helm."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from subprocess import CompletedProcess

from confcom.addon.answers import CommandOutput
from confcom.addon.history import Revision
from confcom.addon.kubectl import Cluster
from confcom.addon.objects import KubernetesObject, listing, mapping, text
from confcom.addon.plan import ADD_ON
from confcom.addon.programs import MIB, ClusterAccessError, Purpose, Run, access_error, call, last_words, run_program
from confcom.errors import ConfcomError, ExitCode, UnavailableError

RELEASE = ADD_ON
HELM_SECONDS = 300
"""What helm gives its hooks: the Job that makes the simulated root has 240 s, images to be pulled included."""
_GRACE_SECONDS = 60.0
"""More than helm's own limit, so that helm explains what it waited for."""
MAX_HELM_BYTES = 64 * MIB
"""A release is kept in a Secret of at most 1 MiB, compressed; a chart's text shrinks to a tenth of its size or more."""
_DRY = ("--dry-run=server", "--output=json")
_CHART_AT_FAULT = re.compile(
    "execution error at|values don't meet|failed to load|chart|template|parse|YAML", re.IGNORECASE
)
"""In helm's message, if the values or the chart are to blame; else it is the cluster."""
_BUSY = re.compile("another operation|release: already exists|cannot re-?use a name that is still in use")
"""In helm's message, if another change has begun: it is pending, or was recorded after this helm had looked."""
_CHART_REFUSAL = re.compile(r"confcom: (?P<what>.+?)\n\s+why: (?P<why>.+?)\n\s+do: +(?P<do>.+?)(\n\n|\Z)", re.DOTALL)
"""How the chart's own refusals are worded."""
_CONTINUATION = re.compile(r"\n {8,}")
"""Before a command, which belongs to the line before it; a line that is not indented so is one more thing to do."""


class ChartError(ConfcomError):
    """The chart refuses the values, or cannot be read."""

    exit_code = ExitCode.USAGE


class HelmError(ConfcomError):
    """Helm could not do what it was asked to."""


class UnfinishedError(HelmError):
    """An earlier change of the release was interrupted, and helm makes no other one before it is undone."""

    exit_code = ExitCode.REFUSED


class BusyError(UnfinishedError):
    """Another change of the release is going on, or was interrupted; or one was recorded at the same moment."""


@dataclass(frozen=True, slots=True)
class Values:
    """What is chosen of the chart's values.

    Args:
        stored: those of the release so far.
        files: of values, later ones win over earlier ones and over the stored ones.
        settings: `KEY=VALUE` as for helm's --set, which win over all.
        texts: the same for --set-string.
    """

    stored: KubernetesObject
    files: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """For helm, which reads the stored ones from its standard input."""
        sets = [*(f"--set={one}" for one in self.settings), *(f"--set-string={one}" for one in self.texts)]
        return ["--values=-", *(f"--values={_one_of_a_list(str(path))}" for path in self.files), *sets]

    @property
    def stdin(self) -> bytes:
        """The stored ones; JSON is YAML."""
        return json.dumps(self.stored).encode()


def _one_of_a_list(path: str) -> str:
    """A path as helm's --values takes it, which is a line of CSV."""
    return f'"{path.replace(chr(34), chr(34) * 2)}"' if {",", '"'} & set(path) else path


def chart_folder() -> Path:
    """The chart that comes with this program.

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
        manifests: without hooks.
        hooks: what is there only while helm is at work.
        config: all values that are not the chart's own, as the release would keep them.
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
        """As in `v4.3.1`.

        Raises:
            ClusterAccessError: there is no helm.
        """
        purpose = Purpose("the chart cannot be installed", without_program="https://helm.sh/docs/intro/install/")
        done = call(self.run, ["helm", "version", "--short"], purpose)
        return done.stdout.decode(errors="replace").strip()

    def history(self) -> tuple[Revision, ...]:
        """The release's revisions, oldest first; none if it is not installed.

        Raises:
            ClusterAccessError: they cannot be read.
        """
        done = self._call("history", "--output=json", operands=[RELEASE], failure="the release cannot be looked up")
        if done.returncode:
            if b"release: not found" in done.stderr:
                return ()
            raise access_error("the release cannot be looked up", last_words(done.stderr) or "helm said nothing")
        answer = CommandOutput.of(done, "the release cannot be looked up")
        try:
            return tuple(map(Revision.parse, answer.mappings()))
        except ValueError as error:
            raise answer.unreadable("the release's revisions", str(error)) from error

    def values(self) -> KubernetesObject:
        """What was chosen of the chart's values.

        Raises:
            HelmError: they cannot be read.
            ClusterAccessError: something else than helm answered; so for the manifests and hooks.
        """
        failure = "the release's values cannot be read"
        return self._checked("get", "values", "--output=json", operands=[RELEASE], failure=failure).mapping_or_null()

    def installed(self, revision: int | None = None) -> tuple[KubernetesObject, ...]:
        """The release's manifests, hooks excepted.

        Args:
            revision: of this one, rather than of the present one.

        Raises:
            HelmError: they cannot be read.
        """
        failure = "the release's manifests cannot be read"
        which = [] if revision is None else [f"--revision={revision}"]
        return self._checked("get", "manifest", *which, operands=[RELEASE], failure=failure).manifests()

    def hooks(self) -> tuple[KubernetesObject, ...]:
        """The release's hooks, of which a failed one may still be in the cluster.

        Raises:
            HelmError: they cannot be read.
        """
        failure = "the release's hooks cannot be read"
        return self._checked("get", "hooks", operands=[RELEASE], failure=failure).manifests()

    def render(self, chart: Path, values: Values) -> Rendering:
        """What would be installed, as the cluster's API server is asked what it serves. Nothing is changed.

        Args:
            chart: its folder or archive.
            values: chosen ones.

        Raises:
            ChartError: the chart refuses the values, or cannot be read.
            UnfinishedError: an earlier change was interrupted.
            ClusterAccessError: the release so far cannot be looked up.
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
        """Install or upgrade the release, and wait for its hooks only.

        Args:
            chart: its folder or archive.
            values: chosen ones.
            force: flags by which it overwrites what others have written (`confcom.addon.overwriting`).

        Raises:
            HelmError: it failed; the release is as helm left it.
        """
        failure = "the chart could not be installed"
        self._check_exit_code(self._upgrade(chart, values, force, failure=failure), failure)

    def rollback(self, revision: int, force: Sequence[str] = ()) -> None:
        """Make the release what it was.

        Args:
            revision: which.
            force: as for an upgrade.

        Raises:
            HelmError: it failed.
        """
        failure = f"the release could not be rolled back to revision {revision}"
        flags = [f"--timeout={HELM_SECONDS}s", *force]
        self._checked("rollback", *flags, operands=[RELEASE, str(revision)], failure=failure)

    def uninstall(self) -> None:
        """Remove the release; its pods end afterwards.

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
        """Run helm with a command and flags; no operand behind `--` can be taken for a flag."""
        context = [f"--kube-context={self.cluster.context}"] if self.cluster.context else []
        command = ["helm", *arguments, self.cluster.namespace_flag, *context, "--", *operands]
        seconds = HELM_SECONDS + _GRACE_SECONDS
        return call(self.run, command, Purpose(failure), stdin=stdin, timeout=seconds, most=MAX_HELM_BYTES)

    def _checked(self, *arguments: str, operands: Sequence[str], failure: str) -> CommandOutput:
        return self._check_exit_code(self._call(*arguments, operands=operands, failure=failure), failure)

    def _check_exit_code(self, done: CompletedProcess[bytes], failure: str) -> CommandOutput:
        if done.returncode:
            why = last_words(done.stderr) or "helm said nothing"
            if unfinished := _unfinished(failure, why):
                raise unfinished
            raise HelmError(failure, why=why, remedy=_remedy(why, self.cluster))
        return CommandOutput.of(done, failure)


def _unfinished(failure: str, why: str) -> UnfinishedError | None:
    """The error about another change, if that is what keeps helm from this one."""
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
    why = last_words(stderr) or "helm said nothing"
    if unfinished := _unfinished("helm cannot change the release", why):
        return unfinished
    if "forbidden" in why or not _CHART_AT_FAULT.search(why):
        return ClusterAccessError("helm cannot look up the release", why=why)
    return ChartError(
        "the chart refuses these values", why=why, remedy="see the values and their reasons: helm show values CHART"
    )

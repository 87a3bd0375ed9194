"""Running kubectl and helm, the two programs by which a person's machine reaches a cluster.

Programs and not a library: both read the kubeconfig by the same rules, so that what is checked is what is changed, with
the contexts, credential plugins and proxies that work already (docs/adr, "Clusters are reached by kubectl and helm").
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confcom.addon.bounded_process import OutputLimitError, run_bounded
from confcom.addon.detached import StopRequest, run_detached
from confcom.errors import UnavailableError

PROGRAM_SECONDS = 60.0
"""For the whole of one kubectl, a credential plugin that asks a person to log in included."""
MIB = 1 << 20
MAX_STDOUT_BYTES = 512 * MIB
"""Of a list of everything. As kubectl indents JSON, a node with 50 images takes 22 KB and a Pod 10 KB: 5,000 nodes and
20,000 Pods, which is as many nodes as Kubernetes supports, take 310 MB."""
MAX_STDERR_BYTES = 8 * MIB
"""Warnings come once for each object or kind, and a login's instructions once. Nobody asks for a debug log."""
MAX_MESSAGE_CHARACTERS = 500
"""Of a program's message in ours: its last words say what failed."""
_LOG_LINE = re.compile(r"[IWEF][0-9]{4} |(time=|level=)")
"""How klog and slog begin a line: kubectl and helm log each attempt so, before they say in plain words what failed."""


_SET_VALUE = re.compile(r"^(--set(?:-string)?=[^=]*=).*", re.DOTALL)
"""A value that helm is given."""
_FORBIDDEN = re.compile(r"\(Forbidden\)|\bis forbidden\b|\bforbidden: User\b")
"""How kubectl and helm tell that the API server answered, and refused."""


_DEFAULT_SERVER = "localhost:8080"
"""Which kubectl and helm ask where no kubeconfig names a cluster."""
_NO_SUCH_CONTEXT = re.compile('context was not found for specified context|context "[^"]*" does not exist')


class ClusterAccessError(UnavailableError):
    """The cluster, or what was to be read there, cannot be reached with this person's kubectl or helm."""


class ForbiddenError(ClusterAccessError):
    """The API server answers, and does not permit it: to ask again is of no use."""


class Run(Protocol):
    """Runs one program to its end."""

    def __call__(
        self,
        arguments: Sequence[str],
        /,
        *,
        stdin: bytes | None = None,
        timeout: float = PROGRAM_SECONDS,
        stop: StopRequest | None = None,
        most: int = MAX_STDOUT_BYTES,
    ) -> subprocess.CompletedProcess[bytes]:
        """Its exit code and all that it said. With a stop request, Ctrl-C reaches the program by that alone.

        Raises:
            OSError, subprocess.TimeoutExpired: it could not be run, or did not end.
            OutputLimitError: it printed more than `most` bytes on stdout, or MAX_STDERR_BYTES on stderr.
        """


def run_program(
    arguments: Sequence[str],
    /,
    *,
    stdin: bytes | None = None,
    timeout: float = PROGRAM_SECONDS,
    stop: StopRequest | None = None,
    most: int = MAX_STDOUT_BYTES,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with this process's environment, and its terminal input if it is given none."""
    environment = without_helm_overrides(os.environ)
    if stop is not None:
        return run_detached(
            arguments,
            stdin=stdin,
            timeout=timeout,
            environment=environment,
            stop=stop,
            most=most,
        )
    return run_bounded(
        arguments,
        stdin=stdin,
        timeout=timeout,
        environment=environment,
        most_stdout=most,
        most_stderr=MAX_STDERR_BYTES,
    )


def within(run: Run, seconds: float) -> Run:
    """The same, with at most so many seconds for each program."""

    def run_soon(
        arguments: Sequence[str],
        /,
        *,
        stdin: bytes | None = None,
        timeout: float = PROGRAM_SECONDS,
        stop: StopRequest | None = None,
        most: int = MAX_STDOUT_BYTES,
    ) -> subprocess.CompletedProcess[bytes]:
        return run(arguments, stdin=stdin, timeout=min(timeout, seconds), stop=stop, most=most)

    return run_soon


def without_helm_overrides(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what leads helm to another cluster, user or namespace than kubectl, which does not read it."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("HELM_KUBE") and name != "HELM_NAMESPACE"
    }


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """What a call is for, as its errors tell it.

    Args:
        failure: what happened if it fails, as in "the nodes cannot be listed".
        manual_command: the command line that a person can type to see the same failure; empty: the one that was run.
        without_program: what else a person can do who has not got the program.
    """

    failure: str
    manual_command: Sequence[str] = ()
    without_program: str = ""


def call(
    run: Run,
    arguments: Sequence[str],
    error_context: ErrorContext,
    *,
    stdin: bytes | None = None,
    timeout: float = PROGRAM_SECONDS,
    most: int = MAX_STDOUT_BYTES,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; how it ended is the caller's to judge.

    Raises:
        ClusterAccessError: it is not there, cannot be run, does not end, or prints more than `most` bytes.
    """
    program = arguments[0]
    try:
        return run(arguments, stdin=stdin, timeout=timeout, most=most)
    except FileNotFoundError as error:
        raise ClusterAccessError(
            error_context.failure,
            why=f"there is no {program} on PATH",
            remedy=f"install {program}"
            + (f"; {error_context.without_program}" if error_context.without_program else ""),
        ) from error
    except ValueError as error:  # a zero byte, or half of a surrogate pair: JSON may have both
        raise ClusterAccessError(
            error_context.failure, why=f"no program can be given this as an argument: {error}"
        ) from error
    except OSError as error:
        raise ClusterAccessError(
            f"{program} cannot be run", why=error.strerror or str(error), remedy=f"check the {program} on PATH"
        ) from error
    except OutputLimitError as error:
        too_much = f"more than {error.limit // MIB} MiB on {error.stream}"
        raise ClusterAccessError(
            error_context.failure,
            why=f"{program} was ended, because it printed {too_much}"
            if error.killed
            else f"{program} printed {too_much}; it ran to its end, and may have made the change",
            remedy=f"see whether a wrapper of {program} answers in its place; "
            f"{manual_command(error_context.manual_command or arguments)}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterAccessError(
            f"{program} did not end within {timeout:.0f} s",
            why=stderr_summary(error.stderr) or "the cluster does not answer, or a login waits for somebody",
            remedy=manual_command(error_context.manual_command or arguments),
        ) from error


def access_error(failure: str, why: str, *, remedy: str = "") -> ClusterAccessError:
    """The error for what a program said when it failed."""
    if _DEFAULT_SERVER in why:
        why = (
            "there is no current context, neither in a file that KUBECONFIG names nor in ~/.kube/config; kubectl and "
            f"helm then ask {_DEFAULT_SERVER}, where nothing answers"
        )
        remedy = (
            "put the cluster's kubeconfig at ~/.kube/config, or name it: export KUBECONFIG=FILE; `kubectl config "
            "get-contexts` lists its contexts, and `kubectl config use-context` or --context chooses one"
        )
        return ClusterAccessError(failure, why=why, remedy=remedy)
    if _NO_SUCH_CONTEXT.search(why):
        remedy = (
            "`kubectl config get-contexts` lists those that there are, of the file that KUBECONFIG names or else of "
            "~/.kube/config"
        )
        return ClusterAccessError(failure, why=why, remedy=remedy)
    kind = ForbiddenError if _FORBIDDEN.search(why) else ClusterAccessError
    return kind(failure, why=why, remedy=remedy)


def manual_command(arguments: Sequence[str]) -> str:
    """What a person can type to see a failure. Values of helm's --set are left out: they may be secrets."""
    shown = [_SET_VALUE.sub(r"\1...", one) for one in arguments]
    return f"try by hand: {shlex.join(shown)}"


def stderr_summary(stderr: bytes | None) -> str:
    """What a program said in the end, on one line, each thing once, without its log."""
    lines = (stderr or b"").decode("utf-8", errors="replace").split("\n")
    telling = [line for line in lines if not _LOG_LINE.match(line)]
    return " ".join(" ".join(dict.fromkeys(telling)).split()).removeprefix("Error: ")[-MAX_MESSAGE_CHARACTERS:]

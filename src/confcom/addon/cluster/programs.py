"""Runs kubectl and helm, the two programs through which a workstation reaches a cluster.

They are used instead of a library because both read the kubeconfig by the same rules: the cluster that is checked is
the one that is changed, and the user's contexts, credential plugins and proxies work unchanged (docs/adr, "Clusters are
reached by kubectl and helm").
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

from confcom.addon.cluster.processes import OutputLimitError, Watch, run_bounded, run_watched
from confcom.errors import UnavailableError

PROGRAM_SECONDS = 60.0
"""Timeout of one kubectl run, including a credential plugin that asks for a login."""
MIB = 1 << 20
MAX_STDOUT_BYTES = 512 * MIB
"""Limit of one list. As kubectl indents JSON, a node with 50 images takes 22 KB and a Pod 10 KB: 5,000 nodes, the most
that Kubernetes supports, and 20,000 Pods take 310 MB."""
MAX_STDERR_BYTES = 8 * MIB
"""Warnings are printed once per object or kind, and a login's instructions once. No debug log is requested."""
MAX_MESSAGE_CHARACTERS = 500
"""Length of a program's message in ours. The end of its output is kept, since that says what failed."""
_LOG_LINE = re.compile(r"[IWEF][0-9]{4} |(time=|level=)")
"""The beginning of a line by klog or slog: kubectl and helm log each attempt, before they print what failed."""
_SET_VALUE = re.compile(r"^(--set(?:-string)?=[^=]*=).*", re.DOTALL)
"""A helm option with a value, which may be a secret."""
_FORBIDDEN = re.compile(r"\(Forbidden\)|\bis forbidden\b|\bforbidden: User\b")
"""Texts by which kubectl and helm report that the API server answered and denied the request."""
_DEFAULT_SERVER = "localhost:8080"
"""The server that kubectl and helm use if no kubeconfig names a cluster."""
_NO_SUCH_CONTEXT = re.compile('context was not found for specified context|context "[^"]*" does not exist')


class ClusterAccessError(UnavailableError):
    """The cluster, or an object in it, cannot be reached with the user's kubectl or helm."""

    error_code = "cluster-request-failed"

    @classmethod
    def of(cls, failure: str, why: str, remedy: str = "", *, error_code: str) -> ClusterAccessError:
        """Create the error of one cause, with its code."""
        return cls(failure, error_code=error_code, why=why, remedy=remedy)


class ForbiddenError(ClusterAccessError):
    """The API server answered and denied the request; a retry does not help."""

    error_code = "forbidden"


class Run(Protocol):
    """The function that runs one program to its end."""

    def __call__(
        self,
        arguments: Sequence[str],
        /,
        *,
        stdin: bytes | None = None,
        timeout: float = PROGRAM_SECONDS,
        watch: Watch | None = None,
        most: int = MAX_STDOUT_BYTES,
    ) -> subprocess.CompletedProcess[bytes]:
        """Return the exit code and the whole output. A watched program outlives this process, and Ctrl-C there.

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
    watch: Watch | None = None,
    most: int = MAX_STDOUT_BYTES,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with this process's environment; without `stdin` and `watch`, it inherits standard input too."""
    environment = without_helm_overrides(os.environ)
    if watch is not None:
        return run_watched(arguments, stdin=stdin, timeout=timeout, environment=environment, watch=watch, most=most)
    return run_bounded(
        arguments,
        stdin=stdin,
        timeout=timeout,
        environment=environment,
        most_stdout=most,
        most_stderr=MAX_STDERR_BYTES,
    )


def without_helm_overrides(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables that could direct helm to another cluster, user or namespace.

    kubectl does not read these variables, so the two would disagree.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("HELM_KUBE") and name != "HELM_NAMESPACE"
    }


def call(
    run: Run,
    arguments: Sequence[str],
    failure: str,
    *,
    stdin: bytes | None = None,
    timeout: float = PROGRAM_SECONDS,
    most: int = MAX_STDOUT_BYTES,
    by_hand: Sequence[str] = (),
    without_program: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; the caller checks the exit code.

    Args:
        run: runs it.
        arguments: the command line.
        failure: what an error says has failed, as in "the nodes cannot be listed".
        stdin: its standard input.
        timeout: seconds for the whole run.
        most: limit in bytes for its standard output.
        by_hand: a command line that shows the same failure; if empty, the one that was run.
        without_program: the alternative for a user who does not have the program.

    Raises:
        ClusterAccessError: it is missing, cannot be run, does not end, or prints more than `most` bytes.
    """
    program, by_hand = arguments[0], by_hand or arguments
    try:
        return run(arguments, stdin=stdin, timeout=timeout, most=most)
    except FileNotFoundError as error:
        raise ClusterAccessError.of(
            failure,
            f"there is no {program} on PATH",
            "; ".join([f"install {program}", *([without_program] if without_program else [])]),
            error_code="program-not-found",
        ) from error
    except ValueError as error:  # a NUL byte, or half of a surrogate pair: JSON strings may contain both
        raise ClusterAccessError.of(
            failure, f"the operating system does not accept this argument: {error}", error_code="argument-not-possible"
        ) from error
    except OSError as error:
        raise ClusterAccessError.of(
            f"{program} cannot be run",
            error.strerror or str(error),
            f"check the {program} on PATH",
            error_code="program-not-executable",
        ) from error
    except OutputLimitError as error:
        too_much = f"more than {error.limit // MIB} MiB on {error.stream}"
        remedy = f"see whether a wrapper of {program} answers in its place; {manual_command(by_hand)}"
        if error.killed:
            raise ClusterAccessError.of(
                failure,
                f"{program} was ended, because it printed {too_much}",
                remedy,
                error_code="output-too-large",
            ) from error
        raise ClusterAccessError.of(
            failure,
            f"{program} printed {too_much}; it ran to completion and may have changed the cluster",
            remedy,
            error_code="output-lost",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterAccessError.of(
            f"{program} did not end within {timeout:.0f} s",
            stderr_summary(error.stderr) or "the cluster does not respond, or a login prompt waits for input",
            manual_command(by_hand),
            error_code="program-timeout",
        ) from error


def access_error(
    done: subprocess.CompletedProcess[bytes], failure: str, *, by_hand: Sequence[str] = ()
) -> ClusterAccessError:
    """Return the error for a program that failed.

    Args:
        done: the program, which has ended.
        failure: as for `call`.
        by_hand: as for `call`.
    """
    why = failure_reason(done)
    if _DEFAULT_SERVER in why:
        return ClusterAccessError.of(
            failure,
            "there is no current context, neither in a file that KUBECONFIG names nor in ~/.kube/config; kubectl and "
            f"helm then ask {_DEFAULT_SERVER}, where nothing answers",
            "put the cluster's kubeconfig at ~/.kube/config, or name it: export KUBECONFIG=FILE; `kubectl config "
            "get-contexts` lists its contexts, and `kubectl config use-context` or --context chooses one",
            error_code="no-current-context",
        )
    if _NO_SUCH_CONTEXT.search(why):
        return ClusterAccessError.of(
            failure,
            why,
            "`kubectl config get-contexts` lists the contexts of the file that KUBECONFIG names, or of ~/.kube/config",
            error_code="context-not-found",
        )
    kind = ForbiddenError if _FORBIDDEN.search(why) else ClusterAccessError
    return kind(failure, why=why, remedy=manual_command(by_hand or done.args))


def manual_command(arguments: Sequence[str]) -> str:
    """Return a remedy with the command to run by hand; values of helm's --set are left out: they may be secret."""
    shown = [_SET_VALUE.sub(r"\1...", one) for one in arguments]
    return f"try by hand: {shlex.join(shown)}"


def failure_reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return why a program failed, as it says itself."""
    return stderr_summary(done.stderr) or f"{done.args[0]} printed nothing"


def stderr_summary(stderr: bytes | None) -> str:
    """Return the end of a program's stderr on one line, without repeated lines and log lines."""
    lines = (stderr or b"").decode("utf-8", errors="replace").split("\n")
    telling = [line for line in lines if not _LOG_LINE.match(line)]
    return " ".join(" ".join(dict.fromkeys(telling)).split()).removeprefix("Error: ")[-MAX_MESSAGE_CHARACTERS:]

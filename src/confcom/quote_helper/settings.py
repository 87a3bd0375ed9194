"""The quote helper's settings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from confcom.daemon.settings import (
    DaemonSettings,
    SettingsParser,
    integer_between,
    member_of,
    parse_path,
    setting,
    switch,
)
from confcom.errors import SettingsError
from confcom.quote_helper.limits_and_deadlines import DEFAULT_MEMORY_LIMIT_MIB
from confcom.quote_helper.quote_log import ALL_QUOTES, DEFAULT_QUOTE_LINES, MAX_QUOTE_LINES, QuoteLines
from confcom.quote_helper.quoting.stale_target import (
    DEFAULT_STALE_REPORT_WINDOW_SECONDS,
    MAX_STALE_REPORT_WINDOW_SECONDS,
)

DEFAULT_SOCKET: Final = Path("/var/run/aesmd/aesm.socket")
"""The path that is compiled into Intel's client library and every other known client."""
DEFAULT_AESMD_SOCKET: Final = Path("/var/run/confcom/aesmd/aesm.socket")
"""This path differs from the default path of Intel's clients, at which the helper itself listens."""

MIN_MEMORY_LIMIT_MIB: Final = 128
"""With less memory, a helper with the maximum of connections and unread answers may exceed its limit."""
MAX_MEMORY_LIMIT_MIB: Final = 1 << 24
"""16 TiB, more than a node has: for a container without a limit, the downward API gives the node's memory."""

DEFAULT_HANDOVER_SECONDS: Final = 1
"""Enough time for an already running helper to take the path: a helper checks the path every half second."""
MAX_HANDOVER_SECONDS: Final = 600

_MR_ENCLAVE_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_MAX_ISV_SVN: Final = 0xFFFF
"""ISVSVN has 16 bits (SDM, "SIGSTRUCT")."""

_DESCRIPTION: Final = """\
The SGX quote helper: it serves AESM's protocol on a unix socket and makes quotes for the enclaves of this node.

Each flag can also be given by the environment variable named beside it; a flag wins."""

_EPILOG: Final = """\
examples:
  {prog} --simulated --socket /tmp/aesm/aesm.socket
      serve a simulated platform in the foreground; needs no SGX hardware and no root
  {prog} --provider aesmd --aesmd-socket /run/aesmd-private/aesm.socket
      relay to Intel's aesmd on a node with SGX hardware
  CONFCOM_AESM_SOCKET=/tmp/aesm/aesm.socket confcom quote --report-data 00 --out q.bin
      get a quote from it"""


class ProviderKind(StrEnum):
    SIMULATED = "simulated"
    AESMD = "aesmd"


def _quote_lines(text: str) -> QuoteLines:
    return ALL_QUOTES if text == ALL_QUOTES else integer_between(0, MAX_QUOTE_LINES)(text)


def _mr_enclave(text: str) -> bytes:
    if not _MR_ENCLAVE_HEX.fullmatch(text):
        raise ValueError(f"it must be 64 hexadecimal digits, not {text!r}")
    return bytes.fromhex(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperSettings(DaemonSettings):
    simulated: bool = switch(
        "make quotes with a simulated platform; they prove nothing about hardware (as --provider simulated)"
    )
    provider: ProviderKind | None = setting(
        None,
        "what makes the quotes: simulated, or aesmd (Intel's, on a private socket; it has never run on SGX hardware)",
        member_of(ProviderKind),
        "NAME",
    )
    aesmd_socket: Path = setting(
        DEFAULT_AESMD_SOCKET, "private socket of Intel's aesmd, to which requests are relayed", parse_path, "PATH"
    )
    expected_root: Path | None = setting(
        None,
        "for tests: relay quotes whose chain ends in this root certificate (PEM or DER); they are never genuine",
        parse_path,
        "FILE",
        shown="Intel's root",
    )
    state_dir: Path | None = setting(
        None,
        "directory of the simulated platform; created if it is missing",
        lambda text: parse_path(text).absolute(),
        "DIR",
        shown="confcom/simulation in $XDG_STATE_HOME or ~/.local/state",
    )
    node_name: str = setting(
        "", "name of the node: simulated platforms with one root differ by it in PCK, PPID and instance id", str, "NAME"
    )
    socket: Path = setting(
        DEFAULT_SOCKET,
        "path of the AESM socket; its directory is created if it is missing",
        parse_path,
        "PATH",
        variable="CONFCOM_AESM_SOCKET",
    )
    open_to_all_users: bool = switch(
        "keep the socket's directory at mode 0755 and the socket at 0666, and report not ready while some "
        "users cannot connect; for a directory that only the helper uses"
    )
    stale_report_window_seconds: int = setting(
        DEFAULT_STALE_REPORT_WINDOW_SECONDS,
        "seconds in which reports for another quoting enclave are answered with 42 (get the target info again), and "
        "then with 47 (final); counted from the start, a change of the quoting enclave, or taking the path",
        integer_between(0, MAX_STALE_REPORT_WINDOW_SECONDS),
        "N",
    )
    simulated_qe_mrenclave: bytes | None = setting(
        None,
        "MRENCLAVE of the simulated quoting enclave, to test an update of it",
        _mr_enclave,
        "HEX",
        shown="that of version 1",
    )
    simulated_qe_isvsvn: int | None = setting(
        None,
        "ISVSVN of the simulated quoting enclave; verifiers report 0 as out of date",
        integer_between(0, _MAX_ISV_SVN),
        "N",
        shown="1",
    )
    identify_pods: bool = switch(
        "identify clients by pod and container, not by uid; needs the node's process IDs (hostPID)"
    )
    log_quotes_per_peer: QuoteLines = setting(
        DEFAULT_QUOTE_LINES,
        "quotes per peer and minute that are logged individually; further quotes are counted; all: a line for every "
        "quote",
        _quote_lines,
        "N",
    )
    memory_limit_mib: int = setting(
        DEFAULT_MEMORY_LIMIT_MIB,
        "memory limit of the helper, of which 1/32 is for answers that clients do not read",
        integer_between(MIN_MEMORY_LIMIT_MIB, MAX_MEMORY_LIMIT_MIB),
        "MIB",
    )
    handover_seconds: int = setting(
        DEFAULT_HANDOVER_SECONDS,
        "most seconds for which the helper serves after SIGTERM, until another helper has taken the socket; set "
        "more where the next helper may start only after this SIGTERM",
        integer_between(0, MAX_HANDOVER_SECONDS),
        "N",
    )
    removal_file: Path | None = setting(
        None,
        "file with the time at which the removal of all helpers began (in seconds since 1970): after a SIGTERM within "
        "ten minutes of this time, the helper waits for no other helper",
        parse_path,
        "FILE",
    )


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser[HelperSettings]:
    epilog = _EPILOG.format(prog=prog)
    return SettingsParser(HelperSettings, prog, description=_DESCRIPTION, environ=environ, epilog=epilog)


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> HelperSettings:
    settings = settings_parser(prog, environ).parse(arguments)
    provider = settings.provider or (ProviderKind.SIMULATED if settings.simulated else None)
    if provider is None or (settings.simulated and provider is not ProviderKind.SIMULATED):
        raise SettingsError(
            "not one quote provider was chosen",
            error_code="provider-not-chosen",
            why="there is no default, so that nobody simulates by accident, and two providers contradict each other",
            remedy="give --simulated (or CONFCOM_SIMULATED=true) for quotes without SGX hardware, or --provider aesmd",
        )
    if provider is ProviderKind.AESMD and settings.aesmd_socket.resolve() == settings.socket.resolve():
        raise SettingsError(
            "the quote helper would relay to itself",
            error_code="aesmd-is-this-helper",
            why=f"--aesmd-socket and --socket are both {settings.socket}",
            remedy="give --aesmd-socket the private socket of Intel's aesmd",
        )
    return replace(settings, provider=provider)

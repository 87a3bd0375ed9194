"""The quote helper's settings: one frozen dataclass, from flags and their CONFCOM_* environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, integer_between, member_of, parse_path
from confcom.errors import SettingsError
from confcom.quote_helper.quoting.stale_target import (
    DEFAULT_STALE_REPORT_WINDOW_SECONDS,
    MAX_STALE_REPORT_WINDOW_SECONDS,
)
from confcom.quote_helper.telemetry.quote_log import ALL_QUOTES, DEFAULT_QUOTE_LINES, MAX_QUOTE_LINES, QuoteLines

DEFAULT_SOCKET: Final = Path("/var/run/aesmd/aesm.socket")
"""Compiled into Intel's client library and every other known client."""
DEFAULT_AESMD_SOCKET: Final = Path("/var/run/confcom/aesmd/aesm.socket")
"""Not the default of Intel's clients, which is the helper's own."""

DEFAULT_MEMORY_LIMIT_MIB: Final = 256
"""The container's memory limit by the chart's default."""
MIN_MEMORY_LIMIT_MIB: Final = 128
"""With less, the helper itself, at its connection limit, may not fit beside what clients hold."""
MAX_MEMORY_LIMIT_MIB: Final = 1 << 24
"""16 TiB: for a container without a limit, the downward API gives the node's memory."""

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
  CONFCOM_AESM_SOCKET=/tmp/aesm/aesm.socket confcom quote --report-data 00 -o q.bin
      get a quote from it"""


class ProviderKind(StrEnum):
    """What makes the quotes."""

    SIMULATED = "simulated"
    AESMD = "aesmd"


_USELESS_FLAGS: Final = {
    ProviderKind.SIMULATED: ("expected_root",),
    ProviderKind.AESMD: ("state_dir", "simulated_qe_mrenclave", "simulated_qe_isvsvn"),
}
"""Flags of the other provider."""


@dataclass(frozen=True, slots=True)
class HelperSettings:
    """The quote helper's settings."""

    state_dir: Path
    """The simulated platform's directory; created if it is missing."""
    socket: Path
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat
    replace_foreign_socket: bool = False
    """Whether another program's live socket is replaced, once a quote was made."""
    open_to_all_users: bool = False
    """Whether modes of the socket and its directory are kept so that every user can connect."""
    stale_report_window_seconds: int = DEFAULT_STALE_REPORT_WINDOW_SECONDS
    """How long a report that the quoting enclave rejects is taken as made for the previous quoting enclave."""
    simulated_qe_mr_enclave: bytes | None = None
    simulated_qe_isv_svn: int | None = None
    identify_pods: bool = False
    """Whether peers are identified by pod and container instead of uid."""
    log_quotes_per_peer: QuoteLines = DEFAULT_QUOTE_LINES
    """Quotes of one peer that get their own log line within a minute, or `all`."""
    memory_limit_mib: int = DEFAULT_MEMORY_LIMIT_MIB
    """The limit of the helper's memory control group."""
    provider: ProviderKind = ProviderKind.SIMULATED
    aesmd_socket: Path = DEFAULT_AESMD_SOCKET
    expected_root: Path | None = None
    """A file with the root certificate of a test platform; None: hardware quotes must end in Intel's root."""


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """Return the flags, for parsing, for `--help` and for shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG.format(prog=prog))
    _add_provider_flags(parser)
    parser.add(
        "--state-dir",
        convert=parse_path,
        default=None,
        metavar="DIR",
        text="directory of the simulated platform; created if it is missing",
        shown_default="confcom/simulation in $XDG_STATE_HOME or ~/.local/state",
    )
    parser.add(
        "--socket",
        convert=parse_path,
        default=DEFAULT_SOCKET,
        metavar="PATH",
        text="path of the AESM socket; its directory is created if it is missing",
        variable="CONFCOM_AESM_SOCKET",
    )
    parser.add_switch(
        "--replace-foreign-socket",
        text="replace the socket of another program after the first quote; otherwise wait until that program ends",
    )
    parser.add_switch(
        "--open-to-all-users",
        text="keep the socket's directory at mode 0755 and the socket at 0666, and report not ready while some "
        "users cannot connect; for a directory that only the helper uses",
    )
    parser.add(
        "--stale-report-window-seconds",
        convert=integer_between(0, MAX_STALE_REPORT_WINDOW_SECONDS),
        default=DEFAULT_STALE_REPORT_WINDOW_SECONDS,
        metavar="N",
        text="seconds after the start in which a report that does not fit the quoting enclave is answered with 42 (get "
        "the target info again); later the answer is 47 (final)",
    )
    parser.add(
        "--simulated-qe-mrenclave",
        convert=_mr_enclave,
        default=None,
        metavar="HEX",
        text="MRENCLAVE of the simulated quoting enclave, to test an update of it",
        shown_default="that of version 1",
    )
    parser.add(
        "--simulated-qe-isvsvn",
        convert=integer_between(0, _MAX_ISV_SVN),
        default=None,
        metavar="N",
        text="ISVSVN of the simulated quoting enclave; verifiers report 0 as out of date",
        shown_default="1",
    )
    _add_peer_flags(parser)
    parser.add(
        "--memory-limit-mib",
        convert=integer_between(MIN_MEMORY_LIMIT_MIB, MAX_MEMORY_LIMIT_MIB),
        default=DEFAULT_MEMORY_LIMIT_MIB,
        metavar="MIB",
        text="memory limit of the helper; half of it is for clients' requests and for answers that they do not read",
    )
    add_common_flags(parser)
    return parser


def _add_provider_flags(parser: SettingsParser) -> None:
    parser.add_switch(
        "--simulated",
        text="make quotes with a simulated platform; they prove nothing about hardware (as --provider simulated)",
    )
    parser.add(
        "--provider",
        convert=member_of(ProviderKind),
        default=None,
        metavar="NAME",
        text="what makes the quotes: simulated, or aesmd (Intel's, on a private socket; it has never run on SGX "
        "hardware)",
    )
    parser.add(
        "--aesmd-socket",
        convert=parse_path,
        default=DEFAULT_AESMD_SOCKET,
        metavar="PATH",
        text="private socket of Intel's aesmd, to which requests are relayed",
    )
    parser.add(
        "--expected-root",
        convert=parse_path,
        default=None,
        metavar="FILE",
        text="for tests: relay quotes whose chain ends in this root certificate (PEM or DER); they are never genuine",
        shown_default="Intel's root",
    )


def _add_peer_flags(parser: SettingsParser) -> None:
    parser.add_switch(
        "--identify-pods",
        text="identify clients by pod and container, not by uid; needs the node's process IDs (hostPID)",
    )
    parser.add(
        "--log-quotes-per-peer",
        convert=_quote_lines,
        default=DEFAULT_QUOTE_LINES,
        metavar="N",
        text="quotes per peer and minute that are logged individually; further quotes are counted; all: a line for "
        "every quote",
    )


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> HelperSettings:
    """Return the settings from the command line and the environment."""
    values = vars(settings_parser(prog, environ).parse(arguments))
    provider = _choose_provider(values)
    state_dir = values.pop("state_dir")
    return HelperSettings(
        provider=provider,
        state_dir=state_dir or (default_state_dir(environ) if provider is ProviderKind.SIMULATED else Path()),
        simulated_qe_mr_enclave=values.pop("simulated_qe_mrenclave"),
        simulated_qe_isv_svn=values.pop("simulated_qe_isvsvn"),
        **values,
    )


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the default directory of a user's simulated platform (XDG Base Directory Specification)."""
    state_home = Path(environ.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():
        home = Path(environ.get("HOME", ""))
        if not home.is_absolute():
            raise SettingsError(
                "the simulated platform has no state directory",
                error_code="no-home-directory",
                why="neither HOME nor XDG_STATE_HOME is set",
                remedy="give --state-dir",
            )
        state_home = home / ".local" / "state"
    return state_home / "confcom" / "simulation"


def _choose_provider(values: dict[str, Any]) -> ProviderKind:
    """Return the provider that was chosen, and take `simulated` and `provider` out of the parsed flags."""
    provider = _chosen(simulated=values.pop("simulated"), named=values.pop("provider"))
    if provider is ProviderKind.AESMD and values["aesmd_socket"].resolve() == values["socket"].resolve():
        raise SettingsError(
            "the quote helper would relay to itself",
            error_code="aesmd-is-this-helper",
            why=f"--aesmd-socket and --socket are both {values['socket']}",
            remedy="give --aesmd-socket the private socket of Intel's aesmd",
        )
    for name in _USELESS_FLAGS[provider]:
        if values[name] is not None:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(
                f"{flag} means nothing with the provider {provider}",
                error_code="flag-of-another-provider",
                why="it is a setting of the other provider",
                remedy=f"leave {flag} out, or choose its provider",
            )
    return provider


def _chosen(*, simulated: bool, named: ProviderKind | None) -> ProviderKind:
    if simulated and named is ProviderKind.AESMD:
        raise SettingsError(
            "two quote providers were chosen",
            error_code="two-providers",
            why=f"--simulated and --provider {named} are given",
            remedy="give one of them",
        )
    if simulated:
        return ProviderKind.SIMULATED
    if named is None:
        raise SettingsError(
            "no quote provider was chosen",
            error_code="provider-not-chosen",
            why="none is the default, so that no node quotes by simulation unawares",
            remedy="give --simulated (or CONFCOM_SIMULATED=true) for quotes without SGX hardware, or --provider aesmd",
        )
    return named


def _quote_lines(text: str) -> QuoteLines:
    return ALL_QUOTES if text == ALL_QUOTES else integer_between(0, MAX_QUOTE_LINES)(text)


def _mr_enclave(text: str) -> bytes:
    if not _MR_ENCLAVE_HEX.fullmatch(text):
        raise ValueError(f"it must be 64 hexadecimal digits, not {text!r}")
    return bytes.fromhex(text)

"""The quote helper's settings: one frozen value, from flags and their CONFCOM_* fallbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, parse_path
from confcom.errors import SettingsError

DEFAULT_SOCKET: Final = Path("/var/run/aesmd/aesm.socket")
"""Compiled into Intel's client library and every other known client."""

_DESCRIPTION: Final = """\
The SGX quote helper: answers AESM's protocol on a unix socket and makes quotes for the enclaves of this node.

Each flag can also be given by the environment variable named beside it; a flag wins."""

_EPILOG: Final = """\
examples:
  {prog} --simulated --socket /tmp/aesm/aesm.socket
      serve a simulated platform in the foreground; needs no SGX hardware and no root
  CONFCOM_AESM_SOCKET=/tmp/aesm/aesm.socket confcom quote --report-data 00 -o q.bin
      get a quote from it"""


@dataclass(frozen=True, slots=True)
class HelperSettings:
    """What the quote helper was asked to do."""

    state_dir: Path
    """The simulated platform's; made if it is missing."""
    socket: Path
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """The flags, for parsing, for `--help` and for shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG.format(prog=prog))
    parser.add_switch("--simulated", text="make quotes by a simulated platform, which proves nothing about hardware")
    parser.add(
        "--state-dir",
        convert=parse_path,
        default=None,
        metavar="DIR",
        text="where the simulated platform is kept; made if it is missing",
        shown_default="confcom/simulation in $XDG_STATE_HOME or ~/.local/state",
    )
    parser.add(
        "--socket",
        convert=parse_path,
        default=DEFAULT_SOCKET,
        metavar="PATH",
        text="where to answer AESM's protocol; its directory is made if it is missing",
        variable="CONFCOM_AESM_SOCKET",
    )
    add_common_flags(parser)
    return parser


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> HelperSettings:
    """Read the command line and the environment.

    Raises:
        SettingsError: a value is wrong, or no platform was chosen.
    """
    values = settings_parser(prog, environ).parse(arguments)
    if not values.simulated:
        raise SettingsError(
            "the quote helper was not told what makes its quotes",
            why="this version has one provider, the simulated platform, and it is never chosen silently; providers "
            "for SGX hardware come in a later version",
            remedy="give --simulated (or CONFCOM_SIMULATED=true) for quotes without SGX hardware",
        )
    return HelperSettings(
        state_dir=values.state_dir or default_state_dir(environ),
        socket=values.socket,
        probe_address=values.probe_address,
        log_level=values.log_level,
        log_format=values.log_format,
    )


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where a person's simulated platform is kept (XDG Base Directory Specification).

    Raises:
        SettingsError: the user has no home.
    """
    state_home = Path(environ.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():
        home = Path(environ.get("HOME", ""))
        if not home.is_absolute():
            raise SettingsError(
                "there is no place for the simulated platform's state",
                why="neither HOME nor XDG_STATE_HOME is set",
                remedy="give --state-dir",
            )
        state_home = home / ".local" / "state"
    return state_home / "confcom" / "simulation"

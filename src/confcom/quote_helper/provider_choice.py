"""The flags that choose a quote provider, and the combinations of them that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from confcom.daemon.settings import SettingsParser, member_of, parse_path
from confcom.errors import SettingsError


class ProviderKind(StrEnum):
    """What makes the quotes."""

    SIMULATED = "simulated"
    """A simulated platform."""
    AESMD = "aesmd"
    """Intel's aesmd, on a private socket."""
    DCAP = "dcap"
    """Intel's DCAP libraries, in a child process (experimental)."""


DEFAULT_AESMD_SOCKET: Final = Path("/var/run/confcom/aesmd/aesm.socket")
"""Not the default of Intel's clients, which is the helper's own."""


def add_provider_flags(parser: SettingsParser) -> None:
    """Add the flags of the choice."""
    parser.add_switch(
        "--simulated",
        text="make quotes with a simulated platform; they prove nothing about hardware (as --provider simulated)",
    )
    parser.add(
        "--provider",
        convert=member_of(ProviderKind),
        default=None,
        metavar="NAME",
        text="what makes the quotes: simulated, aesmd (Intel's, on a private socket), or dcap (Intel's DCAP libraries "
        "in a child process; experimental); neither of these two has ever run on SGX hardware",
    )
    parser.add(
        "--aesmd-socket",
        convert=parse_path,
        default=DEFAULT_AESMD_SOCKET,
        metavar="PATH",
        text="private socket of Intel's aesmd, to which requests are relayed",
    )
    parser.add(
        "--dcap-library-dir",
        convert=parse_path,
        default=None,
        metavar="DIR",
        text="directory of Intel's DCAP libraries and enclaves, which the dynamic linker of the child searches first",
        shown_default="the dynamic linker's places",
    )
    parser.add(
        "--expected-root",
        convert=parse_path,
        default=None,
        metavar="FILE",
        text="for tests: relay quotes whose chain ends in this root certificate (PEM or DER); they are never genuine",
        shown_default="Intel's root",
    )


def choose_provider(values: dict[str, Any]) -> ProviderKind:
    """Return the provider that was chosen, and take `simulated` and `provider` out of the parsed flags.

    Raises:
        SettingsError: none or two were chosen, a flag belongs to the other one, or it would relay to itself.
    """
    provider = _chosen(simulated=values.pop("simulated"), named=values.pop("provider"))
    if provider is ProviderKind.AESMD and _same_socket(values["aesmd_socket"], values["socket"]):
        raise SettingsError(
            "the quote helper would relay to itself",
            error_code="aesmd-is-this-helper",
            why=f"--aesmd-socket and --socket are both {values['socket']}",
            remedy="give --aesmd-socket the private socket of Intel's aesmd",
        )
    _refuse_useless_flags(provider, values)
    return provider


def _chosen(*, simulated: bool, named: ProviderKind | None) -> ProviderKind:
    if simulated and named not in {None, ProviderKind.SIMULATED}:
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
            remedy="give --simulated (or CONFCOM_SIMULATED=true) for quotes without SGX hardware, else --provider "
            "aesmd or dcap",
        )
    return named


_SIMULATED_ONLY: Final = ("state_dir", "published_root", "simulated_qe_mrenclave", "simulated_qe_isvsvn")


def _refuse_useless_flags(provider: ProviderKind, values: Mapping[str, object]) -> None:
    names = {
        ProviderKind.SIMULATED: ("expected_root", "dcap_library_dir"),
        ProviderKind.AESMD: (*_SIMULATED_ONLY, "dcap_library_dir"),
        ProviderKind.DCAP: _SIMULATED_ONLY,
    }[provider]
    for name in names:
        if values[name] is not None:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(
                f"{flag} means nothing with the provider {provider}",
                error_code="flag-of-another-provider",
                why="it is a setting of "
                + ("aesmd" if provider is ProviderKind.SIMULATED else "the simulated platform"),
                remedy=f"leave {flag} out, or choose its provider",
            )


def _same_socket(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()

"""Settings of the simulated PCS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.daemon.probe_server import ProbeAddress
from confcom.daemon.settings import DaemonSettings, SettingsParser, choice, parse_path, setting, switch
from confcom.simulation.collateral_staging import Staging

DEFAULT_ADDRESS: Final = ProbeAddress("127.0.0.1", 8081)
"""The port is that of Intel's PCCS; the host is reachable from this machine only."""

_DESCRIPTION: Final = """\
Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS.

The collateral is signed for the present at each request, so it never needs to be renewed. It says that it is
simulated, and verifies quotes of this platform alone. Clients of Intel's service and of a PCCS find it under
/sgx/certification/v4/: tcb, qe/identity, pckcrl, rootcacrl, crl and tcbevaluationdatanumbers. Those of TDX are
under /tdx/certification/v4/: tcb, qe/identity and tcbevaluationdatanumbers.

Each flag can also be given by the environment variable named beside it; a flag wins."""

_EPILOG: Final = """\
examples:
  {prog} --state-dir ./platform
  {prog} --state-dir ./platform --staging early
  confcom collateral fetch q.bin --from http://127.0.0.1:8081 --early --out early.json
  {prog} --state-dir ./platform --address 0.0.0.0:8081 --tls-cert tls.crt --tls-key tls.key"""


def _parse_address(text: str) -> ProbeAddress:
    address = ProbeAddress.parse(text)
    if address.path:
        raise ValueError("it must be HOST:PORT")
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class PcsSettings(DaemonSettings):
    state_dir: Path | None = setting(
        None,
        "directory of the simulated platform",
        parse_path,
        "DIR",
        shown="confcom/simulation in $XDG_STATE_HOME or ~/.local/state",
    )
    address: ProbeAddress = setting(
        DEFAULT_ADDRESS,
        "address of the service: HOST:PORT, or :PORT for all addresses of this machine; port 0: any port",
        _parse_address,
        "ADDR",
    )
    staging: Staging = choice(
        Staging.NONE, f"statement of the collateral about the platform: {', '.join(Staging)}", "STAGING"
    )
    pccs: bool = switch("serve PCK revocation lists without `encoding` in hexadecimal, as a PCCS does, not as PEM")
    tls_cert: Path | None = setting(
        None, "certificate (PEM) of the service, which is then served by HTTPS", parse_path, "PATH"
    )
    tls_key: Path | None = setting(None, "key of the certificate (PEM), if it is in another file", parse_path, "PATH")


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser[PcsSettings]:
    epilog = _EPILOG.format(prog=prog)
    return SettingsParser(PcsSettings, prog, description=_DESCRIPTION, environ=environ, epilog=epilog)


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> PcsSettings:
    return settings_parser(prog, environ).parse(arguments)

"""The verifier's files of a person's simulated platform."""

from collections.abc import Mapping
from pathlib import Path

from confcom.quote_provider.export import export_platform
from confcom.quote_provider.state_directory import default_state_dir, exposure, open_or_create_platform, utc_now
from confcom.run.plan import RunError
from confcom.simulation.collateral_staging import Staging


def write_trust(wanted: Path | None, staging: Staging, environ: Mapping[str, str]) -> tuple[Path, str]:
    """Write root and collateral, by default beside the platform; return their directory and the root's SHA-256."""
    state = default_state_dir(environ)
    if why := exposure(state):
        raise RunError(f"{state} is open to other users", error_code="state-directory-exposed", why=why)
    platform, trust = open_or_create_platform(state).platform, wanted or state.with_name("trust")
    export_platform(platform, trust, utc_now(), staging=staging)
    return trust, platform.root_fingerprint

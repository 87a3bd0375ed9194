"""The commands `confcom simulation ...` create and export a simulated platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.add_on_options import cluster_options, opened, present
from confcom.cli.output_option import output_option, show_result
from confcom.cli.parameter_types import NamedPath
from confcom.errors import printable
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import Staging

if TYPE_CHECKING:
    from confcom.kubernetes.kubectl_flags import Login
    from confcom.simulation.platform import SimulatedPlatform


@click.group()
def simulation() -> None:
    """Create and export a simulated platform.

    A simulated platform is an SGX platform in software, with its own root and its own quoting enclave. Real verifiers
    accept its quotes if you make them trust its root. The quotes prove nothing about hardware.

    \b
    Examples:
      confcom simulation create ./platform
      confcom simulation export --state-dir ./platform ./trust    a platform on this machine
      confcom simulation export ./trust                           a cluster's platform, with kubectl
      confcom verify q.bin --root trust/root.pem --collateral trust/collateral --allow-simulated \\
          --mrenclave HEX --report-data HEX                       the expected enclave, and your challenge
    """


@simulation.command(short_help="Create a platform if there is none.")
@click.argument("state_dir", type=NamedPath())
@output_option
def create(state_dir: Path, output: str) -> None:
    """Create a platform in STATE_DIR if there is none.

    The command prints the root's fingerprint (SHA-256 of the certificate's DER), which relying parties compare. It
    never changes an existing platform. Keep STATE_DIR secret: everyone who can read it can forge this platform's
    quotes.

    \b
    Example:
      confcom simulation create ~/.local/state/confcom/simulation
    """
    from confcom.quote_provider.state_directory import open_or_create_platform

    stored = open_or_create_platform(state_dir)
    _warn_if_exposed(state_dir)
    fingerprint = stored.platform.root_fingerprint
    what = f"{'Created' if stored.created else 'Found'} the simulated platform in {state_dir}"
    data = {"state_dir": str(state_dir), "created": stored.created, "root_sha256": fingerprint}
    show_result(data, map(printable, (what, f"Root certificate's SHA-256: {fingerprint}")), output)


@simulation.command(short_help="Write the root, its fingerprint and the collateral to files.")
@click.option(
    "--state-dir",
    type=NamedPath(),
    metavar="STATE_DIR",
    help="A platform on this machine.  [default: export the platform of the cluster]",
)
@click.option(
    "--staging",
    type=click.Choice([one.value for one in Staging]),
    help="What the collateral says of the platform.  [default: a cluster's simulated.staging, else none]",
)
@click.option("--early", is_flag=True, help="The early set, which differs with --staging early alone.")
@click.option(
    "--tee",
    type=click.Choice([tee.name.lower() for tee in TeeType]),
    default="sgx",
    show_default=True,
    help="The kind of the quotes that the collateral is about.",
)
@click.argument("out_dir", type=NamedPath())
@cluster_options
def export(
    *,
    state_dir: Path | None,
    namespace: str,
    login: Login,
    staging: str | None,
    early: bool,
    tee: str,
    out_dir: Path,
    output: str,
) -> None:
    """Write the files that relying parties need to OUT_DIR: root, fingerprint and collateral.

    \b
    OUT_DIR/root.pem      the root certificate
    OUT_DIR/root.sha256   SHA-256 of its DER, in hex
    OUT_DIR/collateral/   TCB info, QE identity, revocation lists, their issuers' certificates

    For a cluster's platform, the Secret with the simulated root is read with your own permissions. The Secret
    stays in memory; the files have public data only.

    The collateral is valid for at least two weeks; export it again to renew it. The root stays the same.

    With --staging, you can rehearse what Intel's collateral may say some day: the platform is out of date, needs
    configuration or hardening, or is revoked; or the collateral has expired. The quotes do not change. For a
    cluster's platform, the default is the chart's value simulated.staging.

    Nothing is exported if the root is not valid now, or if the quote helpers or the served collateral have another one.

    \b
    Examples:
      confcom simulation export ./trust
      confcom simulation export --namespace sgx --context my-cluster ./trust
      confcom simulation export --state-dir ./platform ./trust
      confcom simulation export --state-dir ./platform --staging out-of-date ./rehearsal
    """
    from confcom.quote_provider.export import export_platform
    from confcom.quote_provider.state_directory import open_platform
    from confcom.simulation.root_seed import RootSeedError

    chosen, now = Staging(staging) if staging else None, present()
    if state_dir is None:
        platform, chosen = _cluster_platform(namespace, login, chosen)
    else:
        platform = open_platform(state_dir)
        _warn_if_exposed(state_dir)
    if why := platform.unusable(now):
        raise RootSeedError("the simulated root is of no use to relying parties, and nothing is exported", why=why)
    chosen = chosen or Staging.NONE
    written = export_platform(platform, out_dir, now, staging=chosen, early=early, tee=TeeType[tee.upper()])
    files = [str(path) for path in written]
    lines = [*(f"Wrote {file}" for file in files), f"Root certificate's SHA-256: {platform.root_fingerprint}"]
    lines += [] if chosen is Staging.NONE else [f"The collateral is staged: {chosen}."]
    data = {"root_sha256": platform.root_fingerprint, "staging": chosen, "files": files}
    show_result(data, map(printable, lines), output)


def _cluster_platform(namespace: str, login: Login, staging: Staging | None) -> tuple[SimulatedPlatform, Staging]:
    from confcom.addon.api import DAEMON_SET
    from confcom.addon.chart_objects import staging_of, workloads_in
    from confcom.addon.simulated_root import DEFAULT_SECRET, read_platform, root_faults, secret_name
    from confcom.addon.snapshot import read_root

    with opened(login, namespace) as add_on:
        daemons = workloads_in(add_on.cluster.api.list(DAEMON_SET, namespace))
        secret = secret_name(daemons) or DEFAULT_SECRET
        platform = read_platform(add_on.cluster, secret)
        facts = read_root(add_on.cluster, secret, add_on.now)
        for fault in root_faults(facts):
            raise fault
        if facts.unread:
            click.echo(printable(f"Note: the root is not compared with that of {facts.unread}"), err=True)
        return platform, staging or staging_of(daemons)


def _warn_if_exposed(state_dir: Path) -> None:
    from confcom.quote_provider.state_directory import exposure

    if (warning := exposure(state_dir)) is not None:
        click.echo(printable(f"Warning: {warning}"), err=True)

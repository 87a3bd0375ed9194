"""The command `confcom enable`."""

from pathlib import Path

import click

from confcom.cli import add_on_options as options
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.option(
    "--simulated",
    is_flag=True,
    help="Simulate SGX on nodes with the label for it. Quotes then prove nothing about hardware.",
)
@click.option(
    "--simulated-node",
    "simulated_nodes",
    multiple=True,
    metavar="NODE",
    help="Label a node confcom.internal/simulated-sgx=true first; implies --simulated; may be repeated.",
)
@click.option(
    "--beside-hardware",
    is_flag=True,
    help="Allow simulation in a cluster that also has SGX hardware; simulated nodes offer other resource names.",
)
@click.option(
    "--quote-helper/--no-quote-helper",
    default=None,
    help="Install the quote helper, which makes quotes out of process, as one Pod per node. On nodes with SGX hardware "
    "it needs an image with Intel's software.  [default: the previous choice; the first time, install it]",
)
@click.option(
    "--allow-no-nodes", is_flag=True, help="Succeed if no node has SGX yet; nodes that are added later get the daemons."
)
@click.option(
    "--new-root",
    is_flag=True,
    help="Make another simulated root if its Secret is missing, even if quote helpers simulate already; if the Secret "
    "was replaced, use its root. Relying parties then need another `confcom simulation export`.",
)
@options.chart_options
@options.waiting_options
@options.cluster_options
@options.interrupted_by_signals
def enable(
    *,
    simulated: bool,
    simulated_nodes: tuple[str, ...],
    beside_hardware: bool,
    quote_helper: bool | None,
    allow_no_nodes: bool,
    new_root: bool,
    settings: tuple[str, ...],
    texts: tuple[str, ...],
    files: tuple[Path, ...],
    chart: Path | None,
    dry_run: bool,
    wait: bool,
    timeout: int,
    namespace: str,
    login: Login,
    output: str,
) -> None:
    """Enable the SGX add-on on a cluster: EPC as a resource, quotes out of process.

    The command first checks the cluster; if a check fails, nothing is changed. Then helm installs the chart, and the
    command waits until both daemons are ready on every node with SGX. A second run without new options changes
    nothing; with other options, it changes only what they set.

    The first run needs the registry that has the images, or a digest for each image. Later runs keep them. On nodes
    with SGX hardware, quotes are made by Intel's software, which is in no image of confcom: docs/how-to/build-images.md
    tells how to build one. This was never run on SGX hardware.

    \b
    Examples:
      confcom enable --set image.registry=registry.example.com/mirror --set quoteHelper.aesmd.image.repository=aesmd
                                                        nodes with SGX hardware, quotes by Intel's aesmd
      confcom enable --no-quote-helper --set image.registry=registry.example.com/mirror
                                                        nodes with SGX hardware, EPC only
      confcom enable --simulated-node worker-1 --set image.registry=registry.example.com/mirror
                                                        no SGX hardware anywhere
      confcom enable --simulated --dry-run --set image.registry=registry.example.com/mirror
                                                        print what would change

    \b
    Exit codes:
      1    helm failed
      2    the chart refuses the values
      6    the cluster, kubectl or helm does not answer
      7    a check failed or another change is running; nothing was changed
      8    the add-on is installed, but a node is not ready
      130  Ctrl-C or SIGTERM; the last lines say what was changed, and what to do
    """
    from confcom.addon import install
    from confcom.addon.helm import Values
    from confcom.addon.preflight_inputs import InstallRequest

    chosen = ["simulated.enabled=true"] if simulated or simulated_nodes else []
    chosen += ["simulated.besideHardware=true"] if beside_hardware else []
    chosen += [] if quote_helper is None else [f"quoteHelper.enabled={str(quote_helper).lower()}"]
    values = Values(files, (*chosen, *settings), texts)
    request = InstallRequest(options.chart_of(chart), values, simulated_nodes, allow_no_nodes, new_root or None)
    with options.opened(login, namespace) as add_on:
        done = install.enable(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)
    how = "enabled" if done.changed else "enabled already"
    options.show_change(add_on.cluster, done, f"The add-on is {how}", output, wait=wait, then="confcom test")

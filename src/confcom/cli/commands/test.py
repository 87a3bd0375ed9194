"""The command `confcom test`."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli import add_on_options as options
from confcom.cli.output_option import JSON, SHORT, TEXT, output_formats, show_result

if TYPE_CHECKING:
    from confcom.kubernetes.kubectl_flags import Login

TIMEOUT = 60
"""Default of --timeout in seconds: an image that is there starts in 5 s, and AESM clients wait 15 s for a quote."""
FAIL_WITHIN = 7
"""Default of --fail-within in days: time to renew a certificate."""


@click.command()
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Test this node; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Test all nodes.  [default: three of each kind]")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=TIMEOUT,
    show_default=True,
    help="Time that each node's Pod may take.",
)
@click.option("--image", metavar="IMAGE", default="", help="Your enclave program, for nodes with SGX hardware.")
@click.option("--mrenclave", metavar="HEX", help="The expected measurement of your program's enclave.")
@click.option("--mrsigner", metavar="HEX", help="The expected signer of your program's enclave.")
@click.option(
    "--root",
    metavar="FILE|intel",
    help="The root to trust, for your program; without --image, for simulated nodes.  [default: the release's]",
)
@click.option(
    "--collateral",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR|FILE",
    help="The collateral for --root: a directory, or a JSON file.",
)
@click.option(
    "--namespace-for-test",
    "place",
    metavar="NAMESPACE",
    default="",
    callback=lambda ctx, param, value: value and options.namespace_name(ctx, param, value),
    help="Run the Pods in this namespace.  [default: a new one, which is removed]",
)
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the results as JUnit's XML."
)
@click.option(
    "--fail-within",
    type=click.IntRange(min=0),
    metavar="DAYS",
    default=FAIL_WITHIN,
    show_default=True,
    help="Fail if a PCK certificate or the root ends within this time.",
)
@click.option("--without-program", is_flag=True, help="On SGX hardware without --image, EPC, device and aesmd suffice.")
@functools.partial(options.cluster_options, output=output_formats(TEXT, SHORT, JSON))
@options.interrupted_by_signals
def test(
    *,
    nodes: tuple[str, ...],
    everything: bool,
    timeout: int,
    image: str,
    mrenclave: str | None,
    mrsigner: str | None,
    root: str | None,
    collateral: Path | None,
    place: str,
    junit: Path | None,
    fail_within: int,
    without_program: bool,
    namespace: str,
    login: Login,
    output: str,
) -> None:
    """Test on each node whether a Pod gets EPC, the SGX device and a quote, and verify the quote.

    On each tested node, a Pod of the quote helper's image gets a quote for a new challenge. This process verifies the
    quote with the release's root and its staged collateral. The Pods run in a namespace of their own, which is removed
    at the end. The command goes on after a failure, and ends with a table of all failures. `-o short` prints failures
    only.

    On nodes with SGX hardware the Pod opens the device and calls aesmd, but has no enclave program: the quote is never
    verified there without --image. This was never run on SGX hardware.

    \b
    Examples:
      confcom test
      confcom test --node worker-1 --node worker-2
      confcom test --all -o short --junit results.xml
      confcom test --image registry.example.com/my-enclave:1 --mrenclave HEX --root intel --collateral DIR

    \b
    Exit codes:
      0    the quote of each tested node is verified
      2    the command line is invalid
      5    the root or the collateral cannot be read
      6    the API server does not answer
      7    a check failed, for example of permissions; nothing was made
      8    a node failed; the last lines say why
      130  Ctrl-C or SIGTERM; the namespace is removed
    """
    from confcom.node_test.judgement import file_trust
    from confcom.node_test.report import end_lines, node_line
    from confcom.node_test.report import junit as junit_document
    from confcom.node_test.run import RunRequest, run_test
    from confcom.verify.checks.dcap_qvl_appraisal import load_dcap_qvl

    if nodes and everything:
        raise click.UsageError("Give --node or --all, one of the two.")
    if bool(root) != bool(collateral):
        raise click.UsageError("--root and --collateral belong together.")
    if bool(image) != bool(mrenclave or mrsigner) or (image and not root):
        raise click.UsageError("--image needs --mrenclave or --mrsigner, and --root and --collateral.")
    load_dcap_qvl()
    trust = file_trust(root, collateral, mrenclave, mrsigner) if root and collateral else None
    request = RunRequest(nodes, everything, timeout, image, trust, place, timedelta(days=fail_within), without_program)
    with options.opened(login, namespace) as add_on:
        report = run_test(add_on, request, lambda one: click.echo(node_line(one)) if output == TEXT else None)
    if junit:
        junit.write_bytes(junit_document(report))
    failed = map(node_line, report.failed) if output == SHORT else ()
    show_result({**report.to_json(), "cluster": add_on.cluster.to_json()}, [*failed, *end_lines(report)], output)
    click.get_current_context().exit(report.exit_code)

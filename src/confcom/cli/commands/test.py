"""The command `confcom test`."""

import functools
from datetime import timedelta
from pathlib import Path

import click

from confcom.cli import add_on_options as options
from confcom.cli.failures import show_error
from confcom.cli.output_option import JSON, SHORT, TEXT, output_formats, show_result
from confcom.cli.parameter_types import PATH
from confcom.errors import ConfcomError
from confcom.kubernetes.kubectl_flags import Login

TIMEOUT, FAIL_WITHIN = 60, 7
"""Defaults: seconds, since a Pod starts in 5 s and AESM clients wait 15 s; days, in which a certificate is renewed."""
_NUMBER = functools.partial(click.option, show_default=True)


@click.command()
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Test this node; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Test all nodes.  [default: three of each kind]")
@_NUMBER(
    "--timeout", type=click.IntRange(1), metavar="SECONDS", default=TIMEOUT, help="Time that each node's Pod may take."
)
@click.option("--image", metavar="IMAGE", default="", help="Your enclave program, for nodes with SGX hardware.")
@click.option("--mrenclave", metavar="HEX", help="The expected measurement of your program's enclave.")
@click.option("--mrsigner", metavar="HEX", help="The expected signer of your program's enclave.")
@click.option("--root", metavar="FILE|intel", help="The root of your program's quotes, or of simulated nodes.")
@click.option("--collateral", type=PATH, metavar="DIR|FILE", help="Its collateral: a directory, or a JSON file.")
@click.option(
    "--namespace-for-test",
    "place",
    metavar="NAMESPACE",
    default="",
    callback=lambda ctx, param, value: value and options.namespace_name(ctx, param, value),
    help="Run the Pods in this namespace.  [default: a new one, which is removed]",
)
@click.option("--junit", type=PATH, metavar="FILE", help="Write the results as JUnit's XML.")
@_NUMBER(
    "--fail-within",
    type=click.IntRange(0),
    metavar="DAYS",
    default=FAIL_WITHIN,
    help="Fail if a PCK certificate or the root ends within this time.",
)
@click.option("--without-program", is_flag=True, help="On SGX hardware without --image, EPC, device and aesmd suffice.")
@click.option(
    "--sysdump-on-failure", "dump", type=PATH, metavar="FILE", help="If a node failed, write `confcom sysdump` to FILE."
)
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
    dump: Path | None,
    namespace: str,
    login: Login,
    output: str,
) -> None:
    """Test on each node whether a Pod gets EPC, the SGX device and a quote, and verify the quote.

    The Pods run the quote helper's image in a namespace of their own, which is removed at the end. This process
    verifies the quotes with the release's root and staged collateral. The command goes on after a failure, and ends
    with a table of all failures. `-o short` prints failures only.

    On SGX hardware without --image, the Pod opens the device and calls aesmd; its quote is never verified. This was
    never run on SGX hardware.

    \b
    Examples:
      confcom test
      confcom test --node worker-1 --node worker-2
      confcom test --all -o short --junit results.xml --sysdump-on-failure dump.tar.gz
      confcom test --image registry.example.com/my-enclave:1 --mrenclave HEX --root intel --collateral DIR

    \b
    Exit codes:
      5    the root or the collateral cannot be read
      7    a check failed, for example of permissions; nothing was made
      8    a node failed; the last lines say why
      0, 2, 6 and 130 as for enable; after 130, nothing is left
    """
    from confcom.node_test.judgement import file_trust
    from confcom.node_test.report import end_lines, node_line
    from confcom.node_test.report import junit as junit_document
    from confcom.node_test.runner import NodeTestRequest, run_test
    from confcom.sysdump.dump import write_dump

    if nodes and everything:
        raise click.UsageError("Give --node or --all, one of the two.")
    if bool(root) != bool(collateral):
        raise click.UsageError("--root and --collateral belong together.")
    if bool(image) != bool(mrenclave or mrsigner) or (image and not root):
        raise click.UsageError("--image needs --mrenclave or --mrsigner, and --root and --collateral.")
    trust = file_trust(root, collateral, mrenclave, mrsigner) if root and collateral else None
    within = timedelta(days=fail_within)
    request = NodeTestRequest(nodes, everything, timeout, image, trust, place, within, without_program)
    with options.opened(login, namespace) as add_on:
        report = run_test(add_on, request, lambda one: click.echo(node_line(one)) if output == TEXT else None)
        if junit:
            junit.write_bytes(junit_document(report))
        failed = map(node_line, report.failed) if output == SHORT else ()
        show_result({**report.to_json(), "cluster": add_on.cluster.to_json()}, [*failed, *end_lines(report)], output)
        if dump and report.failed:
            try:
                write_dump(add_on, dump)
                click.echo(f"confcom sysdump: written to {dump}; look into it before you give it away", err=True)
            except ConfcomError as error:  # the result is printed already, and its exit code counts
                show_error(error, as_json=False)
    click.get_current_context().exit(report.exit_code)

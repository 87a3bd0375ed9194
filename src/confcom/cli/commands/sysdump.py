"""The command `confcom sysdump`."""

from pathlib import Path

import click

from confcom.cli.add_on_options import cluster_options, interrupted_by_signals, opened
from confcom.cli.output_option import show_result
from confcom.cli.parameter_types import NamedPath
from confcom.errors import printable
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.argument("file", type=NamedPath(), required=False)
@click.option("--dry-run", is_flag=True, help="Print the names of the archive's files, and write nothing.")
@cluster_options
@interrupted_by_signals
def sysdump(*, file: Path | None, dry_run: bool, namespace: str, login: Login, output: str) -> None:
    """Write an archive with what a stranger needs to help you with the add-on. Nothing is sent.

    FILE is a tar.gz; by default its name has the time. It is readable for you only, and has at most 50 MiB before
    compression. It has the add-on's status, the chart's values, the add-on's objects and Pods, events, logs of the
    daemons (also from before a restart; the last 2 MiB each), their probe pages, and versions. Of each kind of daemon
    it has 20 Pods, those with problems first. The command reads with your permissions; not-read.txt in the archive
    says what it could not read.

    These secrets are left out: Secrets (the simulated root, logins for registries, helm's record), tokens, keys,
    passwords, users in URLs, values of variables, and identifiers of platforms and quoting enclaves. Names of nodes,
    namespaces, Pods, hosts and images are shown. Logs are free text: look into the archive before you give it away.

    \b
    Examples:
      confcom sysdump
      confcom sysdump --dry-run
      confcom sysdump for-the-ticket.tar.gz
      confcom sysdump -o json | jq -r '.not_read[]'

    \b
    Exit codes:
      0    the archive is written, even if something could not be read
      1    the archive cannot be written
      6    the API server does not answer
    """
    from confcom.sysdump.dump import default_name, list_dump, write_dump

    with opened(login, namespace) as add_on:
        done = list_dump(add_on) if dry_run else write_dump(add_on, file or default_name(add_on.now()))
    lines = list(done.files)
    if done.path:
        lines = [f"Written to {done.path}: {len(done.files)} files, {done.size / 1024:.0f} KiB; look into it first."]
    lines += [f"Not read: {line}" for line in done.not_read]
    show_result({"cluster": add_on.cluster.to_json(), **done.to_json()}, map(printable, lines), output)

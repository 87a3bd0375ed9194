import subprocess
import sys


def run_python(*arguments, timeout=50, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


def run_confcom(*arguments, **options):
    """Run `confcom ARGUMENT ...` in this process."""
    from click.testing import CliRunner

    from confcom.cli.group import cli

    return CliRunner().invoke(cli, list(map(str, arguments)), **options)

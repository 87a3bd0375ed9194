import subprocess
import sys

import pytest

from confcom.cli.commands.completion import complete_for_kubectl
from confcom.cli.main import main


@pytest.fixture
def completed(monkeypatch, capsys):
    """Completions of an unfinished command line, each with its kind, as click's bash script gets them."""

    def call(line):
        monkeypatch.setenv("_CONFCOM_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        monkeypatch.setattr(sys, "argv", ["confcom"])
        with pytest.raises(SystemExit):
            main()
        out, err = capsys.readouterr()
        assert err == ""
        return out.split()

    return call


def test_after_a_command_that_is_not_there_the_commands_are_offered(completed):
    assert completed("confcom nosuch ") == completed("confcom ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("confcom ver", ["plain,verify", "plain,version"]),
        ("confcom demo --mode u", ["plain,user-namespace"]),
    ],
)
def test_values_are_offered(completed, line, expected):
    assert completed(line) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ena"], ["enable"]),
        (["status", "--outp"], ["--output"]),
        (["status", "--output", ""], ["text", "json"]),
        (["update", "--vers"], ["--version"]),
    ],
)
def test_kubectl_completes_the_plugin(words, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-confcom", *words])
    complete_for_kubectl()
    *offered, directive = capsys.readouterr().out.splitlines()
    assert directive == ":4"
    assert [line.partition("\t")[0] for line in offered] == expected


def test_as_a_plugin_of_kubectl_it_calls_itself_so(tmp_path):
    plugin = tmp_path / "kubectl-confcom"
    plugin.write_text("from confcom.cli.main import main; main()")
    done = subprocess.run([sys.executable, str(plugin), "status", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: kubectl confcom status [OPTIONS]")

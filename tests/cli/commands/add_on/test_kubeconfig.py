"""No kubeconfig, or no context in it: what kubectl and helm say then is about a server that nobody named."""

import json
import subprocess

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import error_of

COMMANDS = [["status"], ["enable"], ["update"], ["rollback"], ["disable"]]
KUBECTL = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
HELM = 'Error: kubernetes cluster unreachable: Get "http://localhost:8080/version": dial tcp: connection refused'


def explained(done, code="no-current-context"):
    """The error of a command that was given `-o json`, or the finding that caused it."""
    assert done.exit_code == ExitCode.UNAVAILABLE, done.output
    error = error_of(done)
    if error["code"] == "preflight-failed":
        (error,) = [one for one in json.loads(done.stdout)["findings"] if one["outcome"] == "failed"]
    assert error["code"] == code
    assert "KUBECONFIG" in error["why"] + error["do"]
    assert "~/.kube/config" in error["why"] + error["do"]
    assert KUBECTL not in done.stderr
    return error


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_is_said_where_a_kubeconfig_is_looked_for(confcom, cluster, command):
    run = cluster.run

    def nowhere(arguments, /, **more):
        if "version" in arguments and arguments[0] == "helm":
            return run(arguments, **more)
        said = HELM if arguments[0] == "helm" else KUBECTL
        return subprocess.CompletedProcess(arguments, 1, b"", said.encode())

    cluster.run = nowhere
    error = explained(confcom(*command, "-o", "json"))
    assert "KUBECONFIG" in error["why"]
    assert "export KUBECONFIG=FILE" in error["do"]


def test_a_context_that_is_not_there(confcom, cluster):
    said = b"Error in configuration: context was not found for specified context: foo"
    cluster.run = lambda arguments, /, **_: subprocess.CompletedProcess(arguments, 1, b"", said)
    error = explained(confcom("status", "--context", "foo", "-o", "json"), "context-not-found")
    assert "specified context: foo" in error["why"]
    assert "kubectl config get-contexts" in error["do"]

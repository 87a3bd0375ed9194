"""Runs or parses every command in the documentation, or gives the reason why a command is left out.

The add-on's commands on cluster pages run in the page's order on a cluster in memory. Other tests run the
commands on the pages in RUN_BY. confcom parses all its commands. kubectl runs its commands until it connects to
the API server. helm renders the chart with the values of commands that install it. make's targets must exist.
"""

import os
import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from confcom.cli.group import cli
from confcom.device_plugin import settings as plugin
from confcom.quote_helper import settings as helper
from testkit import cluster_objects as make
from testkit.certificates import own_authority
from testkit.cluster_programs import find_helm, find_kubectl
from testkit.documentation import PAGES, ROOT, Command, blocks, commands
from testkit.fake_chart import new_cluster
from testkit.working_daemons import settle

RUN_BY = {
    "docs/how-to/enable-the-add-on.md": "tests/cli/test_docs_enable.py",
    "docs/tutorial/first-quote.md": "tests/docs/test_local_pages.py",
    "docs/explanation/simulated-platform.md": "tests/docs/test_local_pages.py",
    "docs/how-to/get-a-quote.md": "tests/docs/test_local_pages.py",
    "docs/how-to/verify-a-quote.md": "tests/docs/test_local_pages.py",
    "README.md": "tests/docs/test_readme.py",
}
"""Pages whose confcom commands are run unchanged by other tests, and the files of these tests."""

NOT_RUN = {
    "az",  # needs an Azure subscription
    "oc",  # needs an OpenShift cluster
    *("ausearch", "audit2allow", "semodule"),  # need a node with SELinux
    *("jq", "tar"),  # read what a command printed or wrote
    "docker",  # needs a container builder and a registry; `make images` builds images/Dockerfile
    "for",  # a loop around docker, which e2e/full/slow/test_page_of_images.py runs
    "ctr",  # needs containerd and root; the cases on real Kubernetes import images
    *("cosign", "skopeo", "cmp", "venv/bin/pip"),  # `make release-check` runs these pages
    "pip",  # needs a package index
    "uvicorn",  # not installed; a test runs the page's web service without uvicorn
    ".venv/bin/python",  # needs root and a running cluster, or a finding of the fuzzer
}
"""Programs whose commands no test here runs, because of what these programs need."""

SHELL = {
    *("cd", "export", "case", "until", "do", "done", "break", "timeout", "python", "python3", "."),
    *("sed", "sleep", "base64", "cat", "ls", "echo", "openssl", "date", "printf", "sha256sum", "cut"),
    *("break", "set", "grep", "git"),
}
"""Commands that every system has; tests that run whole code blocks check the effects of these commands."""
ABBREVIATED = "it is abbreviated for its readers"
ADD_ON = {"enable", "status", "update", "rollback", "disable"}
HARDWARE_PAGES = {"docs/how-to/aks.md", "docs/how-to/on-premises.md", "docs/how-to/alibaba.md"}
REGISTRY = ["--set", "image.registry=REGISTRY"]
"""Settings that a page's first command sets and the release keeps; a second cluster needs them too."""
NOBODY = "http://127.0.0.1:1"
"""Address at which no API server listens."""
CLUSTER_PAGES = [
    "docs/tutorial/first-quote.md",
    "docs/how-to/cluster-without-sgx.md",
    "docs/how-to/aks.md",
    "docs/how-to/on-premises.md",
    "docs/how-to/alibaba.md",
    "docs/how-to/drain-and-replace-a-node.md",
    "docs/how-to/update-and-roll-back.md",
    "docs/how-to/troubleshoot.md",
]

STARTED = [(command, words) for page in PAGES for command in commands(page) for words in command.programs()]
EXAMPLES = [
    pytest.param(command, words[1:], id=str(command))
    for line in helper._EPILOG.format(prog="confcom quote-helper").splitlines()
    if "confcom " in line
    for command in [Command("quote-helper --help", "", line.strip())]
    for words in command.programs()
]
"""The example commands in the quote helper's help text."""


def started(program):
    """One test case for each command in the pages that starts this program."""
    return [pytest.param(command, words[1:], id=str(command)) for command, words in STARTED if words[0] == program]


@pytest.fixture(scope="session")
def kubectl():
    return find_kubectl() or pytest.skip("no kubectl: put it on PATH, or build it with `make e2e-tools`")


@pytest.fixture(scope="session")
def helm():
    return find_helm() or pytest.skip("no helm: put it on PATH, or build it with `make e2e-tools`")


def story_cluster(page):
    labels = make.HARDWARE if page in HARDWARE_PAGES else {}
    return new_cluster(*(make.node(f"worker-{number}", labels) for number in (1, 2, 3)))


def mixed_cluster():
    """A second cluster, for a page's commands that simulate SGX beside hardware."""
    return new_cluster(make.node("metal-1", make.HARDWARE), make.node("worker-1", make.SIMULATED))


@pytest.mark.parametrize("page", CLUSTER_PAGES)
def test_the_add_ons_commands_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    cluster, ran = story_cluster(page), 0
    if page not in HARDWARE_PAGES and not any("--simulated-node" in command.line for command in commands(page)):
        done = cluster.run("enable", "--simulated-node", "worker-1", *REGISTRY)  # the first step of the page
        assert done.exit_code == 0, done.output
    for command in commands(page):
        for program, *arguments in command.programs():
            if program == "confcom" and arguments[0] in ADD_ON:
                if "--beside-hardware" in arguments:  # needs a second cluster, whose kubelets are not simulated
                    done = mixed_cluster().run(*arguments, *REGISTRY, "--dry-run")
                else:
                    done = cluster.run(*arguments)
                assert done.exit_code == 0, f"{command}\n{done.output}"
                ran += 1
            elif program == "kubectl" and arguments[:2] == ["label", "node"] and arguments[3][-1] != "-":
                cluster.api.find("Node", arguments[2])[0]["metadata"]["labels"].update([arguments[3].split("=")])
                settle(cluster.api)
    assert ran


@pytest.mark.parametrize(("command", "arguments"), [*started("confcom"), *EXAMPLES])
def test_confcom_takes_it(command, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    if any("..." in word for word in arguments):
        pytest.skip(f"{command}: {ABBREVIATED}")
    if not arguments or arguments[0].isupper():
        return
    if arguments[0] in {"quote-helper", "device-plugin"}:
        settings = helper if arguments[0] == "quote-helper" else plugin
        settings.parse_settings(arguments[1:], prog="confcom", environ={"HOME": "/h"})
        return
    context, words, found = click.Context(cli, info_name="confcom"), arguments, cli
    while isinstance(found, click.Group):
        assert words, f"{command} names no command"
        found, words = found.get_command(context, words[0]), words[1:]
        assert found is not None, command
    with found.make_context(str(found.name), placeholders(words), parent=context):
        pass  # leaving the block closes files


def placeholders(words):
    """Replace placeholders by values, as a reader of the page does."""
    return [
        {"HEX": "00", "DIR": ".", "$MRENCLAVE": "00" * 32, "$CHALLENGE": "00", "$IMAGE": "image"}.get(word, word)
        for word in words
    ]


@pytest.mark.parametrize(("command", "arguments"), started("kubectl"))
def test_kubectl_takes_it(kubectl, command, arguments, tmp_path):
    if not arguments or arguments[0] == "confcom" or any("..." in word for word in arguments):
        pytest.skip(f"{command}: {ABBREVIATED}")
    (tmp_path / "quota.yaml").write_text(blocks("docs/how-to/limit-epc-per-namespace.md", "yaml")[0])
    (tmp_path / "report-job.yaml").write_text(blocks("docs/reference/hardware-report.md", "yaml")[0])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "pccs-ca.pem").write_text("a certificate")
    _, both = own_authority(tmp_path)
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(both.read_bytes())
    done = subprocess.run(
        [kubectl, "--server", NOBODY, "--request-timeout=2s", *placeholders(arguments)],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        input=(ROOT / "examples" / "job.yaml").read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "127.0.0.1:1" in done.stderr, done.stderr  # kubectl accepted the command and tried to connect
    assert "refused" in done.stderr


def chart_settings(arguments):
    """Options for helm that correspond to the arguments of a confcom or helm command."""
    words, kept = iter(arguments), []
    for word in words:
        if word in {"--set", "--set-string", "--values", "-f"}:
            kept += [word, next(words)]
        elif word in {"--simulated", "--simulated-node"}:
            kept += ["--set", "simulated.enabled=true"]
        elif word == "--beside-hardware":
            kept += ["--set", "simulated.besideHardware=true"]
        elif word in {"--quote-helper", "--no-quote-helper"}:
            kept += ["--set", f"quoteHelper.enabled={str(word == '--quote-helper').lower()}"]
    return kept


def kept_settings(command):
    """Settings from the page's earlier commands; only the registry if the commands may use several clusters."""
    kept = []
    for before in commands(command.page):
        if before == command:
            return kept
        for program, *arguments in before.programs():
            if (program, arguments[:1]) != ("confcom", ["enable"]):
                continue
            settings = chart_settings(arguments)
            if command.page in HARDWARE_PAGES:
                kept += settings
            elif not kept:
                kept = [word for one in settings if one.startswith("image.registry=") for word in ("--set", one)][:2]
    raise LookupError(command)


INSTALLING = [*started("helm"), *started("confcom")]
REFUSED = "docs/how-to/enable-the-add-on.md: confcom enable --simulated-node worker-3"
"""Command whose error the page shows, because it names no registry and the cluster has no release."""


@pytest.mark.parametrize(
    ("command", "arguments"), [case for case in INSTALLING if case.values[1][:1] in (["install"], ["enable"])]
)
def test_the_chart_takes_its_values(helm, command, arguments, tmp_path):
    kept = [] if str(command) == REFUSED else kept_settings(command)
    settings = [word.replace("$REGISTRY", "REGISTRY") for word in (*kept, *chart_settings(arguments))]
    assert settings, command
    done = subprocess.run(
        [helm, "template", "confcom", "charts/confcom", "--namespace", "confcom-system", *settings],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if str(command) == REFUSED:
        assert "neither a registry nor a digest is given" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert "DaemonSet" in [one["kind"] for one in yaml.safe_load_all(done.stdout) if one]


def test_make_has_the_targets():
    makefile = (ROOT / "Makefile").read_text()
    asked = {word for _, words in STARTED if words[0] == "make" for word in words[1:] if "=" not in word}
    assert {"demo", "test"} <= asked
    assert {target for target in asked if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)} == set()


def test_no_program_is_forgotten():
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / test).read_text()
    checked = {"confcom", "kubectl", "helm", "make"}
    assert {words[0] for _, words in STARTED} - checked - SHELL - NOT_RUN == set()

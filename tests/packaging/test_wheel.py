import configparser
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

from testkit.documentation import ROOT

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "PYTHON"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("confcom-*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_alone_tells_the_story(wheel, tmp_path):
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    pip = [str(place / "bin" / "pip"), "--quiet", "--disable-pip-version-check", "install"]
    lock = ROOT / "requirements" / "run.lock"
    subprocess.run(
        [*pip, "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(lock)], check=True, env=ENVIRONMENT
    )
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, env=ENVIRONMENT)
    command = [str(place / "bin" / "confcom"), "demo", "--output", "json"]
    done = subprocess.run(command, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is True


def test_the_wheel_carries_what_it_needs_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"confcom/demo/examples/job.yaml", "confcom/verify/intel_sgx_root_ca.pem", "confcom/py.typed"} <= names
    chart = ROOT / "charts" / "confcom"
    assert {f"confcom/addon/chart/{one.relative_to(chart)}" for one in chart.rglob("*") if one.is_file()} <= names
    assert {name.split("/")[0] for name in names} == {"confcom", f"confcom-{wheel.name.split('-')[1]}.dist-info"}


def test_the_wheel_installs_the_command_and_kubectls_plugin(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/entry_points.txt")]
        parser = configparser.ConfigParser()
        parser.optionxform = str
        parser.read_string(archive.read(name).decode())
    assert dict(parser["console_scripts"]) == {
        "confcom": "confcom.cli.main:main",
        "kubectl-confcom": "confcom.cli.main:main",
        "kubectl_complete-confcom": "confcom.cli.commands.completion:complete_for_kubectl",
    }


def test_the_source_archive_carries_the_examples(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = tmp_path.glob("confcom-*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/confcom/demo/examples/job.yaml", "src/confcom/addon/chart/Chart.yaml", "Makefile"} <= names


SLOW_TO_IMPORT = {"grpc", "cryptography"}
HELP = """
from confcom.cli.group import cli
try:
    cli(["--help"])
except SystemExit:
    pass
"""
FOR_A_CLUSTER = """
from confcom.addon import disable, install, snapshot
from confcom.cli import add_on_options, progress_display, status_table
from confcom.cli.commands import enable, status
"""
FOR_QUOTES = "import confcom.verify, dcap_qvl"
NOT_FOR_QUOTES = {
    *("asyncio", "ssl", "httpx2", "tomllib", "cryptography.hazmat.primitives.serialization"),
    "cryptography.hazmat.backends.openssl.backend",
}
"""Packages that importing `confcom.verify` must not import; they take 0.7 MB of the limit of 35 MB."""


@pytest.mark.parametrize(
    ("program", "libraries"),
    [
        (HELP, SLOW_TO_IMPORT | {"yaml", "dcap_qvl", "asyncio"}),
        (FOR_A_CLUSTER, SLOW_TO_IMPORT),
        (FOR_QUOTES, NOT_FOR_QUOTES),
    ],
    ids=["help", "commands for a cluster", "verify"],
)
def test_libraries_that_are_slow_to_import_wait_until_they_are_needed(program, libraries):
    program += f"\nimport sys\nprint(sorted(set(sys.modules) & {libraries}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    command = [sys.executable, "-m", "confcom", "completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_CONFCOM_COMPLETE" in done.stdout

import importlib.metadata
import os
import re
import subprocess
import sys
import urllib.request
from http import HTTPStatus

import pytest

from confcom.extras import missing_extra
from testkit.documentation import ROOT
from testkit.helper_process import running_helper

EXTRAS = {
    "cli": ["click", "msgspec", "yaml"],
    "client": ["google"],
    "collateral": ["httpx2"],
    "daemon": ["grpc", "prometheus_client", "uvloop"],
    "ratls": ["cbor2"],
}


def without(modules, program, *arguments):
    hidden = f"import sys\nfor name in {modules}: sys.modules[name] = None\nsys.argv = {['confcom', *arguments]}\n"
    return subprocess.run([sys.executable, "-c", hidden + program], capture_output=True, text=True, check=False)


COMMAND = "from confcom.cli.main import main\nmain()"
MODULE = "import runpy\nrunpy.run_module('confcom.{}', run_name='__main__')"
CASES = {
    "command line": ("cli", ["click"], COMMAND, ["verify", "q.bin"]),
    "quote": ("client", ["google.protobuf"], COMMAND, ["quote", "--report-data", "00"]),
    "fetching": ("collateral", ["httpx2"], COMMAND, ["collateral", "fetch", "q", "--from", "intel", "--out", "c"]),
    "daemon of the command line": ("daemon", ["grpc"], COMMAND, ["device-plugin"]),
    "quote helper": ("daemon", ["prometheus_client"], MODULE.format("quote_helper"), ["--help"]),
    "device plugin": ("daemon", ["grpc"], MODULE.format("device_plugin"), ["--help"]),
    "collateral service": ("daemon", ["prometheus_client"], MODULE.format("simulated_pcs"), ["--help"]),
    "controller": ("controller", ["lightkube"], MODULE.format("controller"), ["--help"]),
}


@pytest.mark.parametrize(("extra", "hidden", "program", "arguments"), CASES.values(), ids=CASES)
def test_a_program_names_the_extra_and_where_it_is(extra, hidden, program, arguments):
    done = without(hidden, program, *arguments)
    assert done.returncode == 6, done.stderr
    assert f"pip install 'THE WHEEL OR CHECKOUT OF CONFCOM[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_verifying_needs_no_extra():
    hidden = [module for modules in EXTRAS.values() for module in modules] + ["lightkube"]
    done = without(hidden, "import confcom.verify, dcap_qvl, cryptography; print(confcom.verify.SgxPolicy())")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("package", "hidden", "extra"), [
    ("client", "google.protobuf", "client"),
    ("service", "httpx2", "collateral"),
])  # fmt: skip
def test_a_program_gets_an_import_error_with_the_extra(package, hidden, extra):
    program = f"try:\n    import confcom.{package}\nexcept ImportError as error:\n    print(error.error_code, error)"
    done = without([hidden], program)
    assert done.stdout.startswith("extra-missing "), done.stderr
    assert f"CONFCOM[{extra}]'" in done.stdout


def test_a_worker_of_a_service_needs_no_http():
    done = without(EXTRAS["collateral"], "import confcom.quote_worker")
    assert done.returncode == 0, done.stderr


def test_a_simulated_helper_and_its_collateral_need_no_packages_of_a_cluster(short_dir):
    hidden = ["grpc", "lightkube", *EXTRAS["cli"][1:], *EXTRAS["collateral"], *EXTRAS["ratls"]]
    (short_dir / "sitecustomize.py").write_text(f"import sys\nfor name in {hidden}: sys.modules[name] = None\n")
    environ = {"PYTHONPATH": str(short_dir)}

    def command(*arguments):
        return [sys.executable, "-m", "confcom", *map(str, arguments)]

    def run(*arguments):
        subprocess.run(command(*arguments), env=os.environ | environ, cwd=short_dir, timeout=30, check=True)

    with running_helper(directory=short_dir, environ=environ) as helper:
        run("quote", "--report-data", "00", "--socket", helper.socket, "--out", "q.bin")
    run("inspect", "q.bin")
    run("simulation", "export", "exported", "--state-dir", helper.state_dir)
    serve = command("collateral", "serve", "--state-dir", helper.state_dir, "--address", "127.0.0.1:0")
    with subprocess.Popen(serve, env=os.environ | environ, stderr=subprocess.PIPE, text=True) as service:
        try:
            url = re.search(r"http://\S+/", service.stderr.readline())[0]
            assert urllib.request.urlopen(f"{url}qe/identity", timeout=30).status == HTTPStatus.OK
        finally:
            service.terminate()


def test_the_page_names_every_extra():
    page = (ROOT / "docs/reference/python.md").read_text()
    declared = set(importlib.metadata.metadata("confcom").get_all("Provides-Extra"))
    assert set(re.findall(r"^\| `(\w+)` \|.*\| \d+ \| \d+ \|$", page, re.MULTILINE)) == declared


def test_every_package_of_an_extra_is_known():
    for extra, modules in EXTRAS.items():
        for module in modules:
            assert f"[{extra}]" in missing_extra(ModuleNotFoundError("", name=f"{module}.inner")).remedy
    assert missing_extra(ModuleNotFoundError("", name="another")) is None
    wanted = [one for one in importlib.metadata.requires("confcom") if "extra ==" not in one]
    assert sorted(one.split("<")[0].split(">")[0] for one in wanted) == ["cryptography", "dcap-qvl"]

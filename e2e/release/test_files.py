"""The signature, the sums and the packages of a release, on the machine of a stranger."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from confcom.errors import ExitCode
from e2e.release.stranger import VERIFY, ok, said
from release import checksums
from testkit.documentation import blocks_of

PYTHONS = ("python3.11", "python3.12", "python3.13")
EXTRAS = {
    "": "python -c 'import confcom.verify'",
    "client": "python -c 'import confcom.client'",
    "collateral": "python -c 'import confcom.collateral'",
    "ratls": "python -c 'import confcom.verify.ratls'",
    "daemon": "python -m confcom.quote_helper --help && venv/bin/python -m confcom.device_plugin --help",
    "controller": "python -m confcom.controller --help",
    "simulated": "confcom run -- true",
    "cli": "confcom version --client",
    "all": "confcom run -- true",
}
"""Commands that need an extra, keyed by the extra."""
REPORT_DATA = 48 + 320
"""Offset of the report data in a quote."""
VERIFIED = "venv/bin/confcom verify {} --root trust/root.pem --collateral trust/collateral --allow-simulated"


def flip(path, offset=300):
    """Replace a file, or a link to a file of the release, by a copy with one changed byte."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def copy(stranger, tmp_path):
    """The folder of the release once more, for a case that changes it."""
    shutil.copytree(stranger.folder, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns("venv"))
    return type(stranger)(tmp_path / "copy", stranger.version, stranger.suffix)


def test_sums_and_signature(stranger, tell):
    tell(ok(stranger.paste(stranger.commands(VERIFY, "The files"))))


CHANGES = {
    "wheel": (lambda folder: flip(next(folder.glob("*.whl"))), "whl: FAILED"),
    "image": (lambda folder: flip(next(folder.glob("quote-helper*.tar"))), "tar: FAILED"),
    "sums": (lambda folder: flip(folder / checksums.NAME), "invalid signature"),
    "key": (lambda folder: (folder / "other.pub").rename(folder / "cosign.pub"), "invalid signature"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused(copy, change, tell):
    do, seen = CHANGES[change]
    do(copy.folder)
    done = copy.paste(copy.commands(VERIFY, "The files"))
    tell(f"{change}: {said(done)}")
    assert done.returncode
    assert seen in said(done)


def test_the_wheel_verifies(installed_wheel, tell):
    """The installed wheel accepts a simulated quote, and refuses a changed one; README's lines run with it."""
    folder = installed_wheel.folder
    pasted = blocks_of("README.md", "Use it from a program", "sh")[0].replace(".venv/", "venv/")
    done = installed_wheel.paste(pasted)
    assert done.returncode == ExitCode.NOT_AUTHORISED, said(done)
    enclave = json.loads(ok(installed_wheel.paste("venv/bin/confcom inspect q.bin --output json")))
    asked = f"--report-data c0ffee --mrenclave {enclave['sections']['report_body']['mr_enclave']}"
    ok(installed_wheel.paste(f"{VERIFIED.format('q.bin')} {asked}"))
    flip(folder / "q.bin", REPORT_DATA)
    done = installed_wheel.paste(f"{VERIFIED.format('q.bin')} {asked}")
    tell(said(done))
    assert done.returncode == ExitCode.NOT_AUTHENTIC


def is_here(python):
    return not subprocess.run(["/usr/bin/env", python, "--version"], capture_output=True, check=False).returncode


@pytest.fixture(scope="session")
def index(stranger, tmp_path_factory):
    """A simple index (PEP 503) with the release's wheel, and with packages that match the lock's hashes."""
    folder = tmp_path_factory.mktemp("index")
    for python in filter(is_here, PYTHONS):
        lock = f"--require-hashes --requirement confcom-{stranger.suffix}.lock"
        ok(stranger.paste(f"{python} -m pip download --quiet {lock} --dest {folder}"))
    for wheel in [stranger.wheel, *folder.glob("*.whl")]:
        place = folder / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        place.mkdir(exist_ok=True)
        (place / wheel.name).symlink_to(wheel)
    command = [sys.executable, "-u", "-m", "http.server", "--bind=127.0.0.1", f"--directory={folder}", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        port = re.search(rb"port (\d+)", server.stdout.readline())[1].decode()
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("python", PYTHONS)
def test_each_extra(stranger, index, python, extra, tmp_path):
    if not is_here(python):
        pytest.skip(f"no {python} here")
    pip = f"{tmp_path}/venv/bin/pip --isolated install --quiet --index-url {index}"
    install = f"{python} -m venv {tmp_path}/venv\n{pip} 'confcom[{extra}]=={stranger.version}'"
    ok(stranger.paste(f"{install}\ncd {tmp_path}\nvenv/bin/pip check\nvenv/bin/{EXTRAS[extra]}"))


def test_python_3_14_resolves(stranger, tmp_path):
    """No Python 3.14 is here: pip resolves the lock's versions for it, and installs nothing."""
    wanted = f"--python-version 3.14 --only-binary=:all: --dry-run --target {tmp_path}"
    lock = f"--require-hashes --requirement confcom-{stranger.suffix}.lock"
    assert "Would install" in ok(stranger.paste(f"{sys.executable} -m pip install {wanted} {lock}"))

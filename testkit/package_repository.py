"""Makes a signed package repository in a folder, with stand-ins for Intel's and Microsoft's packages."""

import hashlib
import os
import shutil
import subprocess
from email.utils import formatdate
from pathlib import Path

import pytest

SUITE = "bookworm"
PROVIDER_LIBRARY = "libdcap_quoteprov.so.1"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
AESM_SERVICE = "opt/intel/sgx-aesm-service/aesm/aesm_service"


def packages(folder, aesm_service):
    """Names, dependencies and files of the stand-in packages, as in Intel's and Microsoft's packages."""
    intels, azures = (_provider_library(folder, name) for name in (PROVIDER_LIBRARY, "libdcap_quoteprov.so"))
    return {
        "sgx-aesm-service": ("", {AESM_SERVICE: aesm_service.encode()}),
        "libsgx-aesm-quote-ex-plugin": ("sgx-aesm-service", {}),
        "libsgx-dcap-default-qpl": (
            "",
            {f"{LIBRARIES}/{PROVIDER_LIBRARY}": intels, "etc/sgx_default_qcnl.conf": b"{}\n"},
        ),
        "az-dcap-client": ("", {"usr/lib/libdcap_quoteprov.so": azures}),
    }


def _provider_library(folder, name):
    """Compile an empty library, which suffices for ldconfig; skip the test if there is no compiler."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler (cc) to build a stand-in for a quote provider library")
    made = folder / name
    empty = ["-shared", "-x", "c", "/dev/null", f"-Wl,-soname,{name}", "-o", made]
    subprocess.run([compiler, *empty], check=True)
    return made.read_bytes()


def make_repository(folder, contents):
    index = "".join(_package(folder, name, depends, files) for name, (depends, files) in contents.items()).encode()
    release = folder / "dists" / SUITE
    (release / "main" / "binary-amd64").mkdir(parents=True)
    (release / "main" / "binary-amd64" / "Packages").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    (release / "Release").write_text(
        f"Suite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: main\nDate: {formatdate(usegmt=True)}\n"
        f"SHA256:\n {digest} {len(index)} main/binary-amd64/Packages\n"
    )
    return _sign(folder / "gnupg", release)


def _package(folder, name, depends, files):
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: nobody\nDescription: stand-in\n"
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN" / "control").write_text(control)
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
        (tree / path).chmod(0o755 if path == AESM_SERVICE else 0o644)
    deb = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)
    data = deb.read_bytes()
    return f"{control}Filename: {deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


def _sign(home: Path, release):
    home.mkdir(mode=0o700)
    gpg, environment = ["gpg", "--batch", "--quiet"], os.environ | {"GNUPGHOME": str(home)}

    def run(*arguments):
        return subprocess.run(arguments, env=environment, check=True, capture_output=True).stdout

    run(*gpg, "--passphrase", "", "--quick-gen-key", "stand-in@packages.test", "ed25519", "sign", "never")
    run(*gpg, "--clearsign", "--output", release / "InRelease", release / "Release")
    key = run(*gpg, "--armor", "--export")
    run("gpgconf", "--kill", "all")
    return key

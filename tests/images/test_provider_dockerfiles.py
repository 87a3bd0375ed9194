"""The images with Intel's programs, as far as their Dockerfiles tell; no test may fetch the packages."""

import json
import os
import subprocess
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "images"
INSTALL = IMAGES / "install-packages"
TARGETS = ("aesmd", "aesmd-azure")
PROVIDER = {"aesmd": "libsgx-dcap-default-qpl", "aesmd-azure": "az-dcap-client"}
USER = "10001:10001"
"""The helper's too, so that each may use what the other makes in the directory that they share."""


def installed(stage):
    """Packages, with the repository's name, address and suite before them."""
    words = [line.partition("&&")[0].split() for line in stage.all("RUN") if "install-packages" in line]
    return [line[line.index("/context/install-packages") + 1 :] for line in words]


@pytest.mark.parametrize("target", TARGETS)
def test_aesmd_starts_in_its_directory_without_privileges(aesmd, target):
    shared = aesmd["service"]
    assert aesmd[target].base == "service"
    assert shared.all("WORKDIR") == ["/opt/intel/sgx-aesm-service/aesm"]
    assert shared.all("ENV") == ["LD_LIBRARY_PATH=."]
    assert aesmd[target].all("USER") == [USER]
    assert aesmd[target].instructions[-1][0] == "USER"
    assert not [line for keyword in ("CMD", "ENTRYPOINT", "WORKDIR", "ENV") for line in aesmd[target].all(keyword)]


def test_aesmd_is_started_by_our_script_and_makes_ecdsa_quotes_only(aesmd):
    (entrypoint,), (arguments,) = aesmd["service"].all("ENTRYPOINT"), aesmd["service"].all("CMD")
    (copied,) = aesmd["service"].all("COPY")
    _, source, target = copied.split()
    assert json.loads(entrypoint) == [target]
    assert os.access(IMAGES / source, os.X_OK)
    assert json.loads(arguments) == ["--no-daemon", "--no-syslog", "--supported_attestation_types=ECDSA"]


def test_aesmds_plug_in_for_quotes_is_installed(aesmd):
    ((name, address, suite, *packages),) = installed(aesmd["service"])
    assert (name, address, suite) == ("intel", '"$INTEL_REPOSITORY"', '"$INTEL_SUITE"')
    assert {"sgx-aesm-service", "libsgx-aesm-quote-ex-plugin"} <= set(packages)
    assert not set(PROVIDER.values()) & set(packages)


@pytest.mark.parametrize("target", TARGETS)
def test_each_variant_has_one_quote_provider_library_and_is_not_built_without(aesmd, target):
    ((name, *_, package),) = installed(aesmd[target])
    assert package == PROVIDER[target]
    assert f"{name.upper()}_REPOSITORY" in aesmd[target].all("ARG")
    (step,) = aesmd[target].all("RUN")
    assert step.endswith("&& start-aesmd --check")


def test_no_repository_is_named_and_none_is_the_default(aesmd):
    arguments = [line for stage in aesmd.values() for line in stage.all("ARG")]
    assert any(line.endswith("_REPOSITORY") for line in arguments)
    assert not [line for line in arguments if "=" in line]
    assert "://" not in str(aesmd)
    assert "://" not in INSTALL.read_text()


@pytest.fixture
def install(tmp_path):
    """Runs the script in a folder of its own, where it finds no key."""
    (tmp_path / INSTALL.name).write_bytes(INSTALL.read_bytes())

    def run(*arguments):
        command = ["/bin/sh", tmp_path / INSTALL.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_without_an_address_it_says_what_to_write_and_installs_nothing(install):
    done = install("intel", "", "", "sgx-aesm-service")
    assert done.returncode == 1
    assert "--build-arg INTEL_REPOSITORY=" in done.stderr
    assert done.stdout == ""


def test_without_a_key_it_says_where_to_put_it(install):
    done = install("microsoft", "https://packages.test/ubuntu", "", "az-dcap-client")
    assert done.returncode == 1
    assert "images/keys/microsoft.asc" in done.stderr


STUB = """#!/bin/sh
echo "$(basename "$0") $*"
case "$*" in *sgx-aesm-service*) cat /etc/apt/sources.list.d/intel.sources; ls -l /etc/apt/keyrings/intel.asc ;; esac
"""


def test_packages_come_by_one_key_and_nothing_stays(tmp_path, in_namespace):
    """With stand-ins for apt-get and ldconfig, and an /etc/apt of its own."""
    (tmp_path / "bin").mkdir()
    for name in ("apt-get", "ldconfig"):
        (tmp_path / "bin" / name).write_text(STUB)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "intel.asc").write_text("a key")
    (tmp_path / INSTALL.name).write_bytes(INSTALL.read_bytes())
    script = f"""set -e
mount -t tmpfs none /etc/apt
mkdir /etc/apt/sources.list.d
mount -t tmpfs none /var/lib
mkdir -p /var/lib/apt/lists/partial
PATH={tmp_path}/bin:$PATH sh {tmp_path}/{INSTALL.name} intel https://packages.test/ubuntu noble sgx-aesm-service two
find /etc/apt /var/lib -not -type d
"""
    done = in_namespace(script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "apt-get install --yes --no-install-recommends sgx-aesm-service two" in lines
    assert {"Types: deb", "URIs: https://packages.test/ubuntu", "Suites: noble"} <= set(lines)
    assert "Signed-By: /etc/apt/keyrings/intel.asc" in lines
    assert any(line.startswith("-rw-r--r--") for line in lines)  # apt reads it as another user
    assert lines[-1] == "ldconfig "  # no file is found after it

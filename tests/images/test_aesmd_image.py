"""Tests Dockerfile, installation and entry point of the aesmd image, but never fetches Intel's packages."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from e2e.dockerfile import stages_of

IMAGES = Path(__file__).parents[2] / "images"
INSTALL = IMAGES / "install-packages"
TARGETS = ("aesmd", "aesmd-azure")
PROVIDER = {"aesmd": "libsgx-dcap-default-qpl", "aesmd-azure": "az-dcap-client"}
USER = "10001:10001"
"""User and group of aesmd and of the helper; they are equal so that both can use the shared directory."""


@pytest.fixture
def aesmd():
    return stages_of(IMAGES / "aesmd" / "Dockerfile")


@pytest.fixture
def in_namespace():
    """Runs a script as root in a new mount namespace, so that other processes do not see its mounts."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount")
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/opt"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")

    def run(script):
        return subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)

    return run


def installed(stage):
    """Arguments of the stage's installations: name, address and suite of the repository, then packages."""
    words = [line.partition("&&")[0].split() for line in stage.all("RUN") if "install-packages" in line]
    return [line[line.index("/context/install-packages") + 1 :] for line in words]


def test_aesmd_has_its_plug_in_and_is_started_by_our_script(aesmd):
    (entrypoint,), (copied,) = aesmd["service"].all("ENTRYPOINT"), aesmd["service"].all("COPY")
    _, source, target = copied.split()
    assert json.loads(entrypoint) == [target]
    assert os.access(IMAGES / source, os.X_OK)
    ((name, address, suite, *packages),) = installed(aesmd["service"])
    assert (name, address, suite) == ("intel", '"$INTEL_REPOSITORY"', '"$INTEL_SUITE"')
    assert {"sgx-aesm-service", "libsgx-aesm-quote-ex-plugin"} <= set(packages)
    assert not set(PROVIDER.values()) & set(packages)


@pytest.mark.parametrize("target", TARGETS)
def test_each_variant_has_one_quote_provider_library_and_the_services_start(aesmd, target):
    assert aesmd[target].base == "service"
    assert not {keyword for keyword, _ in aesmd[target].instructions} & {"CMD", "ENTRYPOINT", "WORKDIR", "ENV"}
    assert aesmd[target].instructions[-1] == ("USER", USER)
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


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("intel", "", "", "sgx-aesm-service"), "--build-arg INTEL_REPOSITORY="),
        (("microsoft", "https://packages.test/ubuntu", "", "az-dcap-client"), "images/keys/microsoft.asc"),
    ],
)
def test_without_an_address_or_a_key_it_installs_nothing(tmp_path, arguments, advice):
    (tmp_path / INSTALL.name).write_bytes(INSTALL.read_bytes())
    command = ["/bin/sh", tmp_path / INSTALL.name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert advice in done.stderr
    assert done.stdout == ""


# The next tests start the entry point, with a stand-in for aesmd, as a runtime does for the chart's Pod.

SCRIPT = IMAGES / "aesmd" / "start-aesmd"
GROUP = "4711"
"""Group ID of the group sgx_prv on the node; any number must work."""
WITH_LIBRARY = "libdcap_quoteprov.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1"
STAND_IN = """#!/bin/sh
echo "arguments=$# $*"
echo "directory=$(pwd)"
echo "user=$(id -u):$(id -g)"
echo "libraries=$LD_LIBRARY_PATH"
echo "home=$HOME"
echo "cache=$AZDCAP_CACHE"
echo "process=$$"
sed -n 's/^CapEff:\\t/capabilities=/p; s/^NoNewPrivs:\\t/no-new-privileges=/p' /proc/self/status
touch /var/run/aesmd/aesm.socket && echo socket=made
touch ./data 2>/dev/null || echo root=read-only
(: <>/dev/sgx_enclave) 2>/dev/null && echo enclave=opened
(: <>/dev/sgx_provision) 2>/dev/null && echo provision=opened
"""
"""A stand-in for aesmd prints how it was started, makes its socket, and opens two devices for writing."""


@pytest.fixture
def start(aesmd, in_namespace, tmp_path):
    """Runs the entry point with the Dockerfile's directory, variables and user, and with a Pod's mounts."""
    for name, text in {"start-aesmd": SCRIPT.read_text(), "aesm_service": STAND_IN}.items():
        (tmp_path / name).write_text(text)

    def run(argument="", *, listed=WITH_LIBRARY, devices=("sgx_enclave", "sgx_provision"), groups=GROUP, mode="0777"):
        (tmp_path / "ldconfig").write_text(f"#!/bin/sh\necho '{listed}'\n")
        entry, directory, variable = (aesmd["service"].all(word)[0] for word in ("ENTRYPOINT", "WORKDIR", "ENV"))
        (program,) = json.loads(entry)
        uid, gid = aesmd["aesmd"].all("USER")[0].split(":")
        nodes = "\n".join(f"mknod -m 0660 /dev/{name} c 1 3; chgrp {GROUP} /dev/{name}" for name in devices)
        words = shlex.join([program, argument or "--an option", "--other"])
        return in_namespace(f"""set -e
mount -t tmpfs none /opt
mkdir -p {directory} /opt/bin
mount -t tmpfs none /usr/local/bin
cp {tmp_path}/start-aesmd {program}; cp {tmp_path}/aesm_service {directory}; cp {tmp_path}/ldconfig /opt/bin
chmod 0755 {program} {directory}/aesm_service /opt/bin/ldconfig
mount -t tmpfs none /run
mkdir /run/aesmd /run/collateral
mount -t tmpfs -o mode={mode} none /run/aesmd
mount -t tmpfs none /dev
mknod -m 0666 /dev/null c 1 3
{nodes}
mount -o remount,ro /opt
mount -o remount,ro,bind /
cd {directory}
echo "started=$$"
exec env -i PATH=/opt/bin:$PATH {variable} HOME=/run/collateral AZDCAP_CACHE=/run/collateral \
    setpriv --reuid {uid} --regid {gid} --groups {groups} --no-new-privs --inh-caps=-all --bounding-set=-all {words}
""")

    return run


def told(done):
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_it_runs_as_in_the_pod(start):
    done = start()
    assert done.returncode == 0, done.stderr
    said = told(done)
    assert said.pop("process") == said.pop("started")  # one process, so aesmd gets the runtime's signals
    assert said == {
        "arguments": "2 --an option --other",
        "directory": "/opt/intel/sgx-aesm-service/aesm",
        "user": "10001:10001",
        "libraries": ".",
        "home": "/run/collateral",
        "cache": "/run/collateral",
        "capabilities": "0000000000000000",
        "no-new-privileges": "1",
        "socket": "made",
        "root": "read-only",
        "enclave": "opened",
        "provision": "opened",
    }
    assert done.stderr == ""


@pytest.mark.parametrize("argument", ["", "--check"])
def test_without_a_quote_provider_library_aesmd_is_not_started(start, argument):
    done = start(argument, listed="libcurl.so.4 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcurl.so.4")
    assert done.returncode == 1
    assert set(told(done)) == {"started"}
    assert "libdcap_quoteprov" in done.stderr


def test_a_check_starts_nothing(start):
    done = start("--check", devices=())
    assert (done.returncode, done.stderr) == (0, "")
    assert set(told(done)) == {"started"}


ENCLAVE, PROVISION = "/dev/sgx_enclave", "/dev/sgx_provision"
OTHER_GROUP = (f"gid {GROUP}", "quoteHelper.sgxPrvGroup")


@pytest.mark.parametrize(
    ("options", "advice", "made"),
    [
        ({"listed": "libdcap_quoteprov.so (libc6,x86-64) => /usr/lib/libdcap_quoteprov.so"}, [], True),
        ({"devices": ("sgx_provision",)}, [(ENCLAVE,)], True),
        ({"devices": ("sgx_enclave",)}, [(PROVISION,)], True),
        ({"groups": "4712"}, [(ENCLAVE, *OTHER_GROUP), (PROVISION, *OTHER_GROUP)], True),
        ({"mode": "0755"}, [("/var/run/aesmd",), ("aesm.socket",)], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_it_may_not_open_is_named_and_aesmd_decides(start, options, advice, made):
    done = start(**options)
    lines = done.stderr.splitlines()
    assert len(lines) == len(advice)
    assert all(part in line for line, parts in zip(lines, advice, strict=True) for part in parts)
    assert ("socket" in told(done)) is made

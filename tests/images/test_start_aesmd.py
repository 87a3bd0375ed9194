"""The entry point of aesmd's image with a stand-in for aesmd, as a runtime starts it for a Pod of the chart."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "images" / "aesmd" / "start-aesmd"
GROUP = "4711"
"""The node's sgx_prv, whatever it is."""
WITH_LIBRARY = "libdcap_quoteprov.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1"
AZURES = "libdcap_quoteprov.so (libc6,x86-64) => /usr/lib/libdcap_quoteprov.so"
STAND_IN = """#!/bin/sh
echo "arguments=$*"
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
"""Says how it was started, and does what aesmd does in hardware: makes its socket, and opens two devices to write."""


@pytest.fixture
def start(aesmd, in_namespace, tmp_path):
    """Runs the entry point by the Dockerfile's directory, environment, user and arguments in a Pod's mounts."""
    for name, text in {"start-aesmd": SCRIPT.read_text(), "aesm_service": STAND_IN}.items():
        (tmp_path / name).write_text(text)

    def run(
        *arguments, listed=WITH_LIBRARY, devices=("sgx_enclave", "sgx_provision"), groups=GROUP, socket_mode="0777"
    ):
        (tmp_path / "ldconfig").write_text(f"#!/bin/sh\necho '{listed}'\n")
        entry, usual, directory, variable = (
            aesmd["service"].all(keyword)[0] for keyword in ("ENTRYPOINT", "CMD", "WORKDIR", "ENV")
        )
        (program,) = json.loads(entry)
        uid, gid = aesmd["aesmd"].all("USER")[0].split(":")
        nodes = "\n".join(f"mknod -m 0660 /dev/{name} c 1 3; chgrp {GROUP} /dev/{name}" for name in devices)
        words = shlex.join([program, *(arguments or json.loads(usual))])
        return in_namespace(f"""set -e
mount -t tmpfs none /opt
mkdir -p {directory} /opt/bin
mount -t tmpfs none /usr/local/bin
cp {tmp_path}/start-aesmd {program}; cp {tmp_path}/aesm_service {directory}; cp {tmp_path}/ldconfig /opt/bin
chmod 0755 {program} {directory}/aesm_service /opt/bin/ldconfig
mount -t tmpfs none /run
mkdir /run/aesmd /run/collateral
mount -t tmpfs -o mode={socket_mode} none /run/aesmd
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
    assert said.pop("process") == said.pop("started")  # so aesmd gets the runtime's signals
    assert said == {
        "arguments": "--no-daemon --no-syslog --supported_attestation_types=ECDSA",
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


def test_the_pods_arguments_replace_those_of_the_image(start):
    assert told(start("--no-daemon", "--an option"))["arguments"] == "--no-daemon --an option"


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_without_a_quote_provider_library_aesmd_is_not_started(start, arguments):
    done = start(*arguments, listed="libcurl.so.4 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcurl.so.4")
    assert done.returncode == 1
    assert set(told(done)) == {"started"}
    assert "libdcap_quoteprov" in done.stderr


def test_azures_library_counts_by_the_name_that_it_has(start):
    assert told(start(listed=AZURES))["socket"] == "made"


def test_a_check_starts_nothing(start):
    done = start("--check", devices=())
    assert (done.returncode, done.stderr) == (0, "")
    assert set(told(done)) == {"started"}


@pytest.mark.parametrize("device", ["sgx_enclave", "sgx_provision"])
def test_a_missing_device_is_named_and_aesmd_decides(start, device):
    done = start(devices={"sgx_enclave", "sgx_provision"} - {device})
    (advice,) = done.stderr.splitlines()
    assert f"/dev/{device}" in advice
    assert told(done)["socket"] == "made"


def test_a_device_of_another_group_is_told_with_that_group(start):
    done = start(groups="4712")
    first, second = done.stderr.splitlines()
    assert "/dev/sgx_enclave" in first
    assert "/dev/sgx_provision" in second
    assert all(f"gid {GROUP}" in line and "quoteHelper.sgxPrvGroup" in line for line in (first, second))
    assert told(done)["socket"] == "made"
    assert "provision" not in told(done)


def test_a_directory_where_no_socket_can_be_made_is_named(start):
    done = start(socket_mode="0755")
    assert "/var/run/aesmd" in done.stderr.splitlines()[0]
    assert "socket" not in told(done)


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.parents[1] / "install-packages"], ids=lambda path: path.name)
def test_a_script_is_read_without_errors_by_the_shell(script):
    assert subprocess.run(["/bin/sh", "-n", script], check=False).returncode == 0

"""What a node with SGX hardware has, made on nodes of the cluster for tests: driver, EPC's size and device nodes.

It is made in the node's own namespaces, on its private /dev and over its /sys; the machine is not changed, and a reboot
of the node removes it. The product has no switch for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confcom.sgx.epc_from_cpuid import MIB
from e2e.cluster import Node

SGX_PRV_GROUP = 107
"""Group of the provision device. Distributions choose the number themselves."""

_FOLDER = "/run/sgx-hardware"
_MAKE = f"""set -e
mkdir -p {_FOLDER}/misc/sgx_enclave {_FOLDER}/misc/sgx_provision {_FOLDER}/node
cp --archive /sys/devices/system/node/. {_FOLDER}/node 2>/dev/null || true
mkdir -p {_FOLDER}/node/node0/x86
echo "$1" > {_FOLDER}/node/node0/x86/sgx_total_bytes
mount --bind {_FOLDER}/misc /sys/class/misc
mount --bind {_FOLDER}/node /sys/devices/system/node
mknod --mode=0666 /dev/sgx_enclave c 1 3
mknod --mode=0660 /dev/sgx_provision c 1 3
chgrp {SGX_PRV_GROUP} /dev/sgx_provision
"""
"""The devices are /dev/null's, which every container may open by the rules of its cgroup. Not all files of sysfs can be
read, so cp ends with an error."""
_REMOVE = f"""
umount /sys/class/misc /sys/devices/system/node
rm -rf /dev/sgx_enclave /dev/sgx_provision {_FOLDER}
"""


@contextmanager
def sgx_hardware(nodes: Sequence[Node], *, epc_mib: int) -> Iterator[None]:
    try:
        for node in nodes:
            node.run(["sh", "-c", _MAKE, "sh", str(epc_mib * MIB)])
        yield
    finally:
        for node in nodes:
            node.run(["sh", "-c", _REMOVE], check=False)

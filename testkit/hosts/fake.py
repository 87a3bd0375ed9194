import os
import stat
from dataclasses import dataclass, field

from confcom.errors import UnavailableError
from confcom.sgx.epc_from_cpuid import MIB, CpuidRegisters

GIB = 1024 * MIB
DRIVER = "/sys/class/misc/sgx_enclave"
ENCLAVE, PROVISION = "/dev/sgx_enclave", "/dev/sgx_provision"
SGX_GID, SGX_PRV_GID = 106, 107


def device(mode=0o666, uid=0, gid=0, *, kind=stat.S_IFCHR):
    return os.stat_result((kind | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


BY_INTELS_RULES = {ENCLAVE: device(), PROVISION: device(0o660, gid=SGX_PRV_GID)}
FILE = device(kind=stat.S_IFREG)


@dataclass
class FakeHost:
    """A host with files, device nodes' statuses, other paths, and CPUID (None if CPUID is not available)."""

    files: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, os.stat_result] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)
    leaves: dict[tuple[int, int], CpuidRegisters] | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)

    def read_text(self, path):
        return self.files.get(path)

    def children(self, path):
        below = [name.removeprefix(path + "/") for name in self.files if name.startswith(path + "/")]
        return tuple(sorted({name.partition("/")[0] for name in below}))

    def exists(self, path):
        return path in self.entries or path in self.nodes or path in self.files

    def status(self, path):
        return self.nodes.get(path)

    def cpuid(self, leaf, subleaf):
        self.asked.append((leaf, subleaf))
        if self.leaves is None:
            raise UnavailableError("CPUID cannot be read", error_code="not-x86-64")
        return self.leaves[leaf, subleaf]


def sysfs(*sizes):
    return {f"/sys/devices/system/node/node{n}/x86/sgx_total_bytes": f"{size}\n" for n, size in enumerate(sizes)}


def section(size, *, kind=1):
    """Registers of an EPC sub-leaf at 4 GiB as in the SDM: EBX and EDX have bits 51..32, EAX and ECX bits 31..12."""
    return CpuidRegisters(kind, 1, (size & 0xFFFFF000) | 1, size >> 32)


def processor(*sizes, sgx=True):
    """CPUID of a processor with these EPC sections; without SGX, leaves that must not be read are missing."""
    leaves = {(0, 0): CpuidRegisters(0x1B, 0x756E6547, 0x6C65746E, 0x49656E69)}
    leaves[7, 0] = CpuidRegisters(0, 0x29C6FBF if sgx else 0x29C6FBB, 0, 0)
    if sgx:
        leaves |= {(0x12, 2 + number): section(size) for number, size in enumerate(sizes)}
        leaves[0x12, 2 + len(sizes)] = CpuidRegisters(0, 0, 0, 0)
    return leaves


def hardware(*sizes, nodes=None, leaves=None):
    """A host with the kernel's driver, device nodes made by Intel's udev rules, and this EPC in sysfs."""
    return FakeHost(sysfs(*sizes), dict(BY_INTELS_RULES if nodes is None else nodes), {DRIVER}, leaves)

"""A node as a directory, a CPUID function and the path of an AESM service, as a hardware report reads it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from confcom.device_plugin.discovery.host import FileStatus
from confcom.errors import UnavailableError
from confcom.hardware_report.collect import Node, collect
from confcom.hardware_report.devices import Caller
from confcom.hardware_report.node_files import Entry, NodeFiles
from confcom.sgx.epc_from_cpuid import MIB, CpuidRegisters
from testkit.hosts.fake import ENCLAVE, PROVISION, SGX_PRV_GID, section
from testkit.hosts.tree import HostTree

NOW = datetime(2026, 11, 27, 3, 4, 5, tzinfo=UTC)
EPC = (4096 * MIB, 2048 * MIB)
LAUNCH_CONTROL = 1 << 30
INTEL = CpuidRegisters(0x1B, 0x756E6547, 0x6C65746E, 0x49656E69)
BARE = {(0, 0): CpuidRegisters(0x10, 0x68747541, 0x444D4163, 0x69746E65), (1, 0): CpuidRegisters(0xB00F21, 0, 0, 0)}
FILES = {
    "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=0c1d password=hunter2 quiet\n",
    "proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0xd0003d1\nflags\t\t: fpu sgx sgx_lc\n\nprocessor\t: 1\n",
    "proc/1/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nVERSION_ID="24.04"\nHOME_URL="https://x"\n',
    "etc/group": "root:x:0:\nsgx:x:106:\nsgx_prv:x:107:aesmd\nbad\n",
    "etc/aesmd.conf": "# proxy\naesm proxy = http://user:hunter2@proxy.corp:8080\nqpl log level = info\nx = hunter2\n",
    "etc/sgx_default_qcnl.conf": """{
  // "pccs_url": "https://comment",
  "pccs_url": "https://user:hunter2@pccs.corp:8081/sgx/certification/v4/?token=hunter2",
  "use_secure_cert": false, "retry_times": 6, /* and */ "pck_cache_expire_hours": 168.0,
  "custom_request_options": {"get_cert": {"headers": {"subscription-key": "hunter2"}}}
}""",
    "etc/udev/rules.d/91-sgx-enclave.rules": "",
    "sys/fs/cgroup/misc.capacity": "sgx_epc 6442450944\n",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5\n\n"
    "Package: libsgx-urts\nStatus: install ok installed\nVersion: 2.25.100.3-noble1\nDescription: x\n Version: 9\n\n"
    "Package: sgx-aesm-service\nStatus: deinstall ok config-files\nVersion: 1\n",
    "opt/intel/sgx-aesm-service/aesm/aesm_service": "",
    "usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1": "",
}


def sgx_leaves(*sizes, leaf_7_ecx=LAUNCH_CONTROL, last=0x1B):
    found = {
        (0, 0): CpuidRegisters(last, INTEL.ebx, INTEL.ecx, INTEL.edx),
        (1, 0): CpuidRegisters(0x606A6, 0x7F100800, 1 << 31, 0),
        (7, 0): CpuidRegisters(0, 0x29C6FBF, leaf_7_ecx, 0),
        (0x12, 0): CpuidRegisters(0x3, 0x1, 0, 0x381F),
        (0x12, 1): CpuidRegisters(0xF6, 0, 0xE7, 0),
        (0x12, 2 + len(sizes)): CpuidRegisters(0, 0, 0, 0),
    }
    return found | {(0x12, 2 + number): section(size) for number, size in enumerate(sizes)}


@dataclass(frozen=True, slots=True)
class TreeFiles(NodeFiles):
    """A directory, with device nodes that nobody needs to be root to make."""

    nodes: dict[str, Entry] = field(default_factory=dict)

    def entry(self, path):
        return self.nodes.get(path) if path.startswith("/dev/") else NodeFiles.entry(self, path)

    def status(self, path):
        found = self.entry(path)
        return found and FileStatus(found.kind == "character device", found.mode, found.uid, found.gid)


class FakeNode(HostTree):
    """Everything that a report reads."""

    def __init__(self, root: Path, socket: Path) -> None:
        super().__init__(root)
        self.socket = socket
        self.nodes = {
            ENCLAVE: Entry("character device", 0o666, 0, 0),
            PROVISION: Entry("character device", 0o660, 0, SGX_PRV_GID),
        }
        self.leaves: dict | None = sgx_leaves(*EPC)
        self.caller = Caller(0, frozenset({0}))
        self.rpm = None
        self.quote = None
        self.call_seconds = 5.0
        self._time = 0.0

    def write(self, path, text):
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def remove(self, path):
        (self.root / path).unlink()

    def report(self):
        node = Node(
            TreeFiles(self.root, self._cpuid, nodes=self.nodes),
            self.socket,
            self.caller,
            query_rpm=self.rpm,
            now=lambda: NOW,
            clock=self._clock,
            call_seconds=self.call_seconds,
        )
        return collect(node, self.quote)

    def values(self, key):
        (found,) = [one for one in self.report().sections if one.key == key]
        return found.values

    def codes(self):
        return [finding.code for _, finding in self.report().findings]

    def _cpuid(self, leaf, subleaf):
        if self.leaves is None:
            raise UnavailableError("CPUID cannot be read", error_code="not-x86-64", why="no x86-64", remedy="use one")
        return self.leaves[leaf, subleaf]

    def _clock(self):
        self._time += 0.25
        return self._time

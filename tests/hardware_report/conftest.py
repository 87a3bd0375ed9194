from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from confcom.device_plugin.host import HostFiles
from confcom.errors import UnavailableError
from confcom.hardware_report.report import collect
from confcom.sgx.epc_from_cpuid import MIB, CpuidRegisters
from testkit.hosts.fake import BY_INTELS_RULES, processor
from testkit.hosts.tree import HostTree

NOW = datetime(2026, 11, 27, 3, 4, 5, tzinfo=UTC)
EPC = (4096 * MIB, 2048 * MIB)
NO_SGX = {(0, 0): CpuidRegisters(0x10, 0x68747541, 0x444D4163, 0x69746E65), (1, 0): CpuidRegisters(0xB00F21, 0, 0, 0)}
NO_SGX[7, 0] = CpuidRegisters(0, 0, 0, 0)
FILES = {
    "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=0c1d password=hunter2 quiet\n",
    "proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0xd0003d1\nflags\t\t: fpu sgx sgx_lc\n\nprocessor\t: 1\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nVERSION_ID="24.04"\nHOME_URL="https://x"\n',
    "etc/group": "root:x:0:\nsgx:x:106:\nsgx_prv:x:107:aesmd\nbad\n",
    "etc/aesmd.conf": "# proxy\naesm proxy = http://user:hunter2@proxy.corp:8080\nqpl log level = info\nx = hunter2\n",
    "etc/sgx_default_qcnl.conf": """{
  // "pccs_url": "https://comment",
  "pccs_url": "https://user:hunter2@pccs.corp:8081/sgx/certification/v4/?token=hunter2",
  "use_secure_cert": false, "retry_times": 6, /* and */ "pck_cache_expire_hours": 168.0,
  "custom_request_options": {"get_cert": {"headers": {"subscription-key": "hunter2"}}}
}""",
    "var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nVersion: 5\n\n"
    "Package: libsgx-urts\nStatus: install ok installed\nVersion: 2.25.100.3-noble1\nDescription: x\n Version: 9\n\n"
    "Package: sgx-aesm-service\nStatus: deinstall ok config-files\nVersion: 1\n",
    "opt/intel/sgx-aesm-service/aesm/aesm_service": "",
    "usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1": "",
}


def sgx_leaves(*sizes):
    return processor(*sizes) | {
        (1, 0): CpuidRegisters(0x606A6, 0x7F100800, 1 << 31, 0),
        (7, 0): CpuidRegisters(0, 0x29C6FBF, 1 << 30, 0),
        (0x12, 0): CpuidRegisters(0x3, 0x1, 0, 0x381F),
        (0x12, 1): CpuidRegisters(0xF6, 0, 0xE7, 0),
    }


@dataclass(frozen=True, slots=True)
class TreeFiles(HostFiles):
    """Files below a directory. Device nodes are not real, but have a status keyed by path."""

    nodes: dict = field(default_factory=dict)
    leaves: dict | None = None

    def status(self, path):
        return self.nodes.get(path) if path.startswith("/dev/") else HostFiles.status(self, path)

    def cpuid(self, leaf, subleaf):
        if self.leaves is None:
            raise UnavailableError("CPUID cannot be read", error_code="not-x86-64")
        return self.leaves[leaf, subleaf]


class SgxNode(HostTree):
    """A node without faults that has SGX, Intel's packages and aesmd."""

    def __init__(self, root, socket):
        super().__init__(root)
        self.set_epc(*EPC)
        self.driver.mkdir(parents=True)
        for path, text in FILES.items():
            self.write(path, text)
        self.socket = socket
        self.nodes = dict(BY_INTELS_RULES)
        self.leaves = sgx_leaves(*EPC)
        self.call_seconds = 5.0
        self._time = 0.0

    def write(self, path, text):
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def remove(self, path):
        (self.root / path).unlink()

    def report(self):
        files = TreeFiles(self.root, nodes=self.nodes, leaves=self.leaves)
        return collect(files, self.socket, now=lambda: NOW, clock=self._clock, call_seconds=self.call_seconds)

    def facts(self, section):
        return self.report()["sections"][section]

    def _clock(self):
        self._time += 0.25
        return self._time


@pytest.fixture
def node(tmp_path, aesmd):
    return SgxNode(tmp_path / "root", aesmd.path)

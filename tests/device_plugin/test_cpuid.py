import platform
import re
import struct
from pathlib import Path

import pytest

from confcom.device_plugin.host import read_cpuid
from confcom.errors import UnavailableError
from testkit.expected_errors import raises
from testkit.programs import run_python

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is an instruction of x86-64")


def kernel_says(name):
    return re.search(rf"^{name}\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]


def packed(leaf, *registers):
    return struct.pack(f"<{len(registers)}I", *(getattr(read_cpuid(leaf, 0), name) for name in registers))


@on_x86_64
def test_vendor_last_leaf_brand_and_features_are_the_kernels():
    assert packed(0, "ebx", "edx", "ecx").decode() == kernel_says("vendor_id")
    assert read_cpuid(0, 0).eax == int(kernel_says("cpuid level"))
    brand = b"".join(packed(leaf, "eax", "ebx", "ecx", "edx") for leaf in (0x80000002, 0x80000003, 0x80000004))
    assert brand.rstrip(b"\0").decode().strip() == kernel_says("model name").strip()
    flags = kernel_says("flags").split()
    bits = {"bmi1": 3, "avx2": 5, "bmi2": 8, "adx": 19}
    ebx = read_cpuid(7, 0).ebx
    assert {name: bool(ebx >> bit & 1) for name, bit in bits.items()} == {name: name in flags for name in bits}
    caches = 4 if kernel_says("vendor_id") == "GenuineIntel" else 0x8000001D
    assert len({read_cpuid(caches, level) for level in range(4)}) == 4


@on_x86_64
def test_nothing_executable_stays():
    def executable_pages():
        maps = Path("/proc/self/maps").read_text().splitlines()
        return [line for line in maps if "x" in line.split()[1] and len(line.split()) == 5]

    read_cpuid(0, 0)  # libffi allocates pages in the first call, and keeps them
    before = executable_pages()
    for _ in range(50):
        read_cpuid(0, 0)
    assert executable_pages() == before


def test_another_processor_is_told():
    for machine in ("aarch64", "riscv64", "i686", ""):
        with raises("not-x86-64", UnavailableError):
            read_cpuid(0, 0, machine=machine)


@on_x86_64
def test_a_system_that_lets_no_page_become_executable_is_told():
    # PR_SET_MDWE (Linux 6.3) restricts a process like systemd's MemoryDenyWriteExecute or a strict SELinux.
    program = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.prctl(65, 1, 0, 0, 0):\n"
        "    print('no MDWE'); sys.exit()\n"
        "from confcom.device_plugin.epc import find_epc\n"
        "from confcom.device_plugin.host import HostFiles\n"
        "from pathlib import Path\n"
        "print(find_epc(HostFiles(Path('/nonexistent'))).reason)\n"
    )
    ended = run_python("-c", program)
    if ended.stdout == "no MDWE\n":
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert "the operating system refuses executable memory pages" in ended.stdout

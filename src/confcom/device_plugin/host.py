"""Read-only access to the host's files and to the CPUID instruction (this module is one of two that use ctypes)."""

import ctypes
import mmap
import os
import platform
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from confcom.errors import UnavailableError
from confcom.sgx.epc_from_cpuid import CpuidRegisters

_CODE = bytes.fromhex(
    "53"  # push rbx: cpuid overwrites it, and the caller needs it again
    "4989d0"  # mov r8, rdx: the third argument, the array for the results
    "89f8"  # mov eax, edi: the first argument, the leaf
    "89f1"  # mov ecx, esi: the second argument, the sub-leaf
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
"""Code of `void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4])` in the System V convention."""


MAX_FILE_BYTES = 64 * 1024 * 1024
"""Read limit of a file. The largest is the list of Debian's packages, of which each takes 1 to 2 KiB."""


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The files of a host whose root file system is at `root`. Paths are absolute paths of the host."""

    root: Path
    unread: dict[str, str] = field(default_factory=dict)
    """The reasons why existing files could not be read, keyed by the files' paths."""

    def read_text(self, path: str) -> str | None:
        try:
            # O_NONBLOCK is for FIFOs: otherwise, opening a FIFO that has no writer would block forever.
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self.unread[path] = "not a regular file"
                    return None
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self._note(path, error)
            return None
        if len(data) > MAX_FILE_BYTES:
            self.unread[path] = f"longer than {MAX_FILE_BYTES} bytes"
            return None
        return data.decode("utf-8", errors="replace")

    def children(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in a directory; no names if the directory cannot be read."""
        try:
            return tuple(sorted(child.name for child in self._at(path).iterdir()))
        except OSError as error:
            self._note(path, error)
            return ()

    def exists(self, path: str) -> bool:
        return self.status(path) is not None

    def status(self, path: str) -> os.stat_result | None:
        try:
            return self._at(path).stat()
        except OSError as error:
            self._note(path, error)
            return None

    def cpuid(self, leaf: int, subleaf: int) -> CpuidRegisters:
        return read_cpuid(leaf, subleaf)

    def _note(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unread[path] = error.strerror or type(error).__name__

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def read_cpuid(leaf: int, subleaf: int, *, machine: str | None = None) -> CpuidRegisters:
    """Return CPUID's registers on the processor that runs this thread; UnavailableError if the system refuses.

    Python cannot execute CPUID itself, and `/dev/cpu/*/cpuid` needs a kernel module and root, so this
    function writes machine code to a new page. The page is first writable, then executable, and never both.
    """
    machine = platform.machine() if machine is None else machine
    if machine != "x86_64" or struct.calcsize("P") != 8:
        raise UnavailableError(
            "CPUID cannot be read",
            error_code="not-x86-64",
            why=f"this is a {8 * struct.calcsize('P')}-bit program on {machine or 'an unknown machine'}",
            remedy="SGX exists on x86-64 only",
        )
    registers = (ctypes.c_uint32 * 4)()
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page.write(_CODE)
        view = ctypes.c_char.from_buffer(page)
        try:
            address = ctypes.addressof(view)
            mprotect = ctypes.CDLL(None, use_errno=True).mprotect
            mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
            if mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
                raise UnavailableError(
                    "CPUID cannot be read",
                    error_code="page-not-executable",
                    why=f"the operating system refuses executable memory pages: {os.strerror(ctypes.get_errno())}",
                    remedy="allow it (SELinux: execmem), or use kernel 5.17 or newer, whose sysfs has the EPC's size",
                )
            kind = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))
            kind(address)(leaf, subleaf, registers)
        finally:
            del view  # `view` would prevent the page from being closed
    return CpuidRegisters(*registers)

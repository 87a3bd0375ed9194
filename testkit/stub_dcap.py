"""Stand-ins for Intel's DCAP libraries (stub_dcap.c), and what is behind them: a simulated platform that can be told to
fail as Intel's libraries were measured to fail.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from enum import IntEnum
from pathlib import Path

import pytest

from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.dcap.error_codes import Quote3Error
from confcom.quote_provider.dcap.frames import Call
from confcom.sgx.report import QeReportInfo, Report
from testkit.type_3_quote import with_type_3

SOURCE = Path(__file__).with_name("stub_dcap.c")
PCE, QE3, PROVIDER = "libsgx_pce_logic.so.1", "libsgx_qe3_logic.so", "libdcap_quoteprov.so.1"
DCAP_QL = "libsgx_dcap_ql.so.1"
_PARTS = {PCE: "PCE_LOGIC", QE3: "QE3_LOGIC", PROVIDER: "PROVIDER", DCAP_QL: "DCAP_QL"}
_NEEDED = {DCAP_QL: (QE3, PCE)}
COMPILE = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{SOURCE.parent}")
_ASKED = struct.Struct("<B??xII432s960s")
_TOLD = struct.Struct("<IIII")


class Action(IntEnum):
    ANSWER = 0
    SEGFAULT = 1
    ABORT = 2
    HANG = 3
    NOISE = 4
    EXIT = 5


def find_compiler():
    """Return a C compiler; skip the test without one."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the stand-ins for Intel's DCAP libraries")
    return compiler


def build_libraries(directory):
    """Compile the libraries into a directory; skip the test without a compiler."""
    compiler = find_compiler()
    for library, part in _PARTS.items():
        needed = [directory / name for name in _NEEDED.get(library, ())]
        command = [compiler, *COMPILE, "-shared", "-fPIC", f"-D{part}", f"-Wl,-soname,{library}", "-Wl,--no-as-needed"]
        subprocess.run([*command, "-o", directory / library, SOURCE, *needed], check=True)
    return directory


class StubDcap:
    """What the libraries ask. `codes` and `milliseconds` hold until they are changed; `codes_once` and `actions` do so
    for one call."""

    def __init__(self, path, provider):
        self.path, self.provider = path, provider
        self.codes = {}
        self.codes_once = {}
        self.actions = {}
        self.milliseconds = {}
        self.altered = lambda quote: quote
        self.altered_info = lambda info: info
        self.added_size = 0
        self.tcb_changed = False
        """Size and quote answer E00F until the next init, as after a change of the certificate's TCB."""
        self.asked = []
        self.pids = []
        self._listener = None

    @property
    def environ(self):
        return os.environ | {"STUB_DCAP_SOCKET": str(self.path)}

    def start(self):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(ConnectionError):
            received = b""
            while len(received) < _ASKED.size:
                received += connection.recv(_ASKED.size)
            number, with_info, has_library, pid, size, report, info = _ASKED.unpack(received)
            call = Call(number)
            self.asked.append(call)
            self.pids.append(pid)
            status, result = self._call(call, has_library, size, report, info if with_info else None)
            action = self.actions.pop(call, Action.ANSWER)
            told = _TOLD.pack(status, action, self.milliseconds.get(call, 0), len(result))
            connection.sendall(told + result)

    def _call(self, call, has_library, size, report, info):
        if code := self.codes_once.pop(call, 0) or self.codes.get(call, 0):
            return code, b""
        if call is Call.INIT:
            self.tcb_changed = False
            identity = self.provider.identity()
            return 0, identity.target_info.encode() + identity.pub_key_id
        if self.tcb_changed:
            return Quote3Error.ATT_KEY_NOT_INITIALIZED, b""
        known = (self.provider.quote_size() if has_library else 1456) + self.added_size
        if call is Call.SIZE:
            return 0, struct.pack("<I", known)
        if size < known:
            return Quote3Error.ERROR_INVALID_PARAMETER, b""
        return self._quote(report, info, has_library=has_library)

    def _quote(self, report, info, *, has_library):
        requested = None if info is None else QeReportInfo.parse(info)
        try:
            made = self.provider.quote(Report.parse(report), requested)
        except QuoteProviderError:
            return Quote3Error.INVALID_REPORT, b""
        quote = made.quote if has_library else with_type_3(made.quote)
        returned = bytes(960) if requested is None else made.qe_report_info.encode()
        return 0, self.altered_info(returned) + self.altered(quote)

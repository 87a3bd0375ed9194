"""The program that loads Intel's DCAP libraries and calls them, one call at a time.

The quote helper starts it as `python -u -m confcom.quote_provider.dcap.child DESCRIPTOR`. It is never forked: a process
that is forked after the enclaves were loaded has lost them. Frames go over the descriptor; stdout and stderr are the
libraries'. With -u C's stdout has no buffer either, whose lines a crash would lose. This is one of the two places where
ctypes is allowed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import sys
import threading
from typing import Any, Final

from confcom.quote_provider.dcap.frames import PUB_KEY_ID_SIZE, REQUEST_SIZE, Answer, Call, Loaded, Request
from confcom.sgx.report import QE_REPORT_INFO_SIZE, REPORT_SIZE, TARGET_INFO_SIZE

PCE_LOGIC: Final = "libsgx_pce_logic.so.1"
QE3_LOGIC: Final = "libsgx_qe3_logic.so"
PROVIDER_LIBRARIES: Final = ("libdcap_quoteprov.so.1", "libdcap_quoteprov.so")
"""Names of the quote provider library, in the order in which Intel's library looks for it."""


class DcapLibraries:
    """Intel's libraries, loaded by the dynamic linker.

    Raises:
        OSError: a library, or one that it needs, cannot be loaded.
        AttributeError: a function is missing.
    """

    def __init__(self) -> None:
        # The quoting library uses symbols of the PCE library without naming it, hence the order and RTLD_GLOBAL.
        self._pce = ctypes.CDLL(PCE_LOGIC, mode=ctypes.RTLD_GLOBAL)
        self._qe3 = ctypes.CDLL(QE3_LOGIC)
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        self._init = self._function("sgx_ql_init_quote", pointer, pointer, ctypes.c_bool, pointer, pointer)
        self._size = self._function("sgx_ql_get_quote_size", pointer, pointer)
        self._quote = self._function("sgx_ql_get_quote", pointer, pointer, pointer, pointer, number)

    def _function(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 # ctypes makes both types at run time
        function = self._qe3[name]
        function.argtypes, function.restype = arguments, ctypes.c_uint32
        return function

    def call(self, request: Request) -> Answer:
        """Make one call, with the default attestation key id (null)."""
        match request.call:
            case Call.INIT:
                target_info, key_id = (ctypes.create_string_buffer(n) for n in (TARGET_INFO_SIZE, PUB_KEY_ID_SIZE))
                size = ctypes.c_size_t(PUB_KEY_ID_SIZE)
                status = self._init(None, target_info, False, ctypes.byref(size), key_id)  # bool refresh
                return Answer(Call.INIT, status, target_info=target_info.raw, pub_key_id=key_id.raw)
            case Call.SIZE:
                quote_size = ctypes.c_uint32()
                status = self._size(None, ctypes.byref(quote_size))
                return Answer(Call.SIZE, status, size=quote_size.value)
            case Call.QUOTE:
                report = ctypes.create_string_buffer(request.report, REPORT_SIZE)
                info = None
                if request.qe_report_info is not None:
                    info = ctypes.create_string_buffer(request.qe_report_info, QE_REPORT_INFO_SIZE)
                quote = ctypes.create_string_buffer(request.size)
                status = self._quote(report, None, info, quote, request.size)
                returned = b"" if info is None else info.raw
                return Answer(Call.QUOTE, status, qe_report_info=returned, quote=quote.raw)


def pin_provider_library() -> tuple[ctypes.CDLL | None, str]:
    """Load the quote provider library, and return it, or None with the reason.

    Intel's library opens and closes it for each call. Unless it is kept, it forgets its certificates each time.
    """
    problem = ""
    for name in PROVIDER_LIBRARIES:
        try:
            return ctypes.CDLL(name), ""
        except OSError as error:
            problem = problem or str(error)
    return None, problem


def end_with_parent(channel: socket.socket) -> None:
    """End this process as soon as the helper has closed its end, even if a call of a library hangs."""

    def watch() -> None:
        poll = select.poll()
        poll.register(channel, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int) -> int:
    """Load the libraries, tell the helper, and answer its requests until it closes its end."""
    with socket.socket(fileno=descriptor) as channel, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        end_with_parent(channel)
        try:
            libraries = DcapLibraries()
        except (OSError, AttributeError) as error:
            channel.send(Loaded(quoting=False, provider_library=False, text=str(error)).encode())
            return 1
        pinned, problem = pin_provider_library()
        channel.send(Loaded(quoting=True, provider_library=pinned is not None, text=problem).encode())
        while data := channel.recv(REQUEST_SIZE + 1):
            channel.send(libraries.call(Request.parse(data)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

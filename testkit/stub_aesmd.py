"""A stand-in for Intel's aesmd that can be told to fail as aesmd does: hang, crash, refuse, or quote uselessly.

Its quotes are a simulated platform's. Calls are serial, as aesmd's are. Like aesmd it knows no quote before an
InitQuoteEx, and leaves its socket behind when it is killed.
"""

import contextlib
import socket
import threading
import time

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuote, plan, refuse
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.quote_provider.base import QuoteProviderError

INIT, SIZE, QUOTE = MessageKind.INIT_QUOTE_EX, MessageKind.GET_QUOTE_SIZE_EX, MessageKind.GET_QUOTE_EX
NUM, IDS = MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, MessageKind.GET_SUPPORTED_ATT_KEY_IDS

NO_ANSWER = (
    ("hang", "aesmd-hangs"),
    ("half", "aesmd-closed"),
    ("killed", "aesmd-unreachable"),
    ("gone", "aesmd-unreachable"),
)
"""Troubles in which it does not answer, each with the code of the error that the relay has for it."""


class StubAesmd:
    def __init__(self, path, provider):
        self.path, self.provider = path, provider
        self.codes = {}
        """Kinds of requests that are refused, with the code."""
        self.hang = threading.Event()
        """Unless set, quoting calls wait."""
        self.hang.set()
        self.seconds = 0.0
        """How long each of them takes."""
        self.cut = None
        """How many bytes of each answer are sent."""
        self.garbage = b""
        """What is sent in place of each answer."""
        self.altered = lambda quote: quote
        self.asked = []
        self._initialised = False
        self._one_at_a_time = threading.Lock()
        self._listener = None

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self._initialised = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def cause(self, trouble):
        """Fail as one of NO_ANSWER says; a call then waits for ever, or is broken off."""
        match trouble:
            case "hang":
                self.hang.clear()
            case "half":
                self.cut = 7
            case "killed":
                self.kill()
            case "gone":
                self.path.unlink()

    def restart(self):
        self.kill()
        self.start()
        self.asked.clear()

    def kill(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection, listener), daemon=True).start()

    def _answer(self, connection, listener):
        session = ServerSession()
        with connection:
            while True:
                data = connection.recv(65536)
                if not data:
                    return
                event = session.receive(data)
                if isinstance(event, RequestReceived):
                    break
            answer = session.respond(self._respond(event.request))
            if listener.fileno() >= 0:  # a killed one answers nothing
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(self.garbage or answer[: self.cut])

    def _respond(self, request):
        self.asked.append(request.kind)
        if request.kind in self.codes:
            return refuse(request.kind, self.codes[request.kind])
        planned = plan(request)
        if not isinstance(planned, Need):
            return planned
        with self._one_at_a_time:
            self.hang.wait()
            time.sleep(self.seconds)
            try:
                return self._call(planned)
            except QuoteProviderError as error:
                return planned.refuse(error.code)

    def _call(self, need):
        if isinstance(need, NeedIdentity):
            self._initialised = True
            identity = self.provider.identity()
            return need.answer(identity.target_info, identity.pub_key_id)
        if not self._initialised:
            return need.refuse(AesmErrorCode.ATT_KEY_NOT_INITIALIZED)
        if isinstance(need, NeedQuote):
            made = self.provider.quote(need.report, need.qe_report_info)
            return need.answer(self.altered(made.quote), made.qe_report_info)
        return need.answer(len(self.altered(bytes(self.provider.quote_size()))))

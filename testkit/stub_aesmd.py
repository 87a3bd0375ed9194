"""A stand-in for Intel's aesmd that can fail like aesmd: it hangs, crashes, refuses, or makes useless quotes.

A simulated platform makes the quotes. Like aesmd, the stand-in serves quoting calls and Num one at a time, quotes
only after an InitQuoteEx, leaves its socket file after a crash, and logs a connection without a request as an attack.
"""

import contextlib
import socket
import threading
from dataclasses import replace

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import MessageKind
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuote, plan, refuse
from confcom.aesm.session import ServerSession
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_or_create_platform
from confcom.sgx.quote import Quote
from confcom.simulation.keys import sign

INIT, SIZE, QUOTE = MessageKind.INIT_QUOTE_EX, MessageKind.GET_QUOTE_SIZE_EX, MessageKind.GET_QUOTE_EX
NUM, IDS = MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, MessageKind.GET_SUPPORTED_ATT_KEY_IDS
QUOTING = frozenset({INIT, SIZE, QUOTE})
AT_ONCE = IDS
"""The only kind of call that does not wait for other calls to end."""

ATTACK = "Malformed request received (May be forged for attack)"
UNINITIALISED_QE_ID = bytes.fromhex("dd7ca5dd0d560000") * 2
"""The 16 bytes of a QE id that was never set; they are a memory address, repeated."""

NO_ANSWER = (
    ("hang", "aesmd-hangs"),
    ("half", "aesmd-closed"),
    ("killed", "aesmd-unreachable"),
    ("gone", "aesmd-unreachable"),
)
"""Pairs of a trouble in which aesmd gives no answer and the code of the relay's error."""


class Run:
    """One process of the stand-in for aesmd."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.initialised = False
        self.one_at_a_time = threading.Lock()
        self.crashed, self.ending = threading.Event(), threading.Event()
        self.codes = {}
        """Error codes with which this process refuses requests from now on, keyed by kind of request."""
        self.id_enclave_failed = False

    def end(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class StubAesmd:
    def __init__(self, path, provider):
        self.path, self.provider = path, provider
        self.codes = {}
        """Error codes with which every process refuses requests, keyed by kind of request."""
        self.recovering = False
        """Whether the next self-test clears `codes`; a self-test that has begun gets consistent answers."""
        self.hang = threading.Event()
        """Quoting calls wait until this event is set."""
        self.hang.set()
        self.seconds = 0.0
        """Duration of each quoting call in seconds."""
        self.cut = None
        """Number of bytes that are sent of each answer; None means the whole answer."""
        self.garbage = b""
        """Bytes that are sent instead of each answer; if empty, the normal answers are sent."""
        self.altered = lambda quote: quote
        self.target_info = None
        """Target info that InitQuoteEx gives instead of the quoting enclave's; None stands for the latter."""
        self.lines = ()
        """Lines that the stand-in logs with each refusal that `codes` causes."""
        self.asked = []
        self.log = []
        self.run = None

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.run = Run(self.path)
        threading.Thread(target=self._serve, args=(self.run,), daemon=True).start()
        return self

    def cause(self, trouble):
        """Cause one of the troubles in NO_ANSWER: a call then waits for ever, or is broken off."""
        match trouble:
            case "hang":
                self.hang.clear()
            case "half":
                self.cut = 7
            case "killed":
                self.kill()
            case "gone":
                self.path.unlink()

    def change_certificate(self):
        """Act as if PCCS gave a certificate of another TCB; size and quote calls then need an InitQuoteEx."""
        self.run.initialised = False

    def lose_enclave(self):
        """Lose the quoting enclave; only another process can load the enclave again."""
        self.run.codes = dict.fromkeys(QUOTING, AesmErrorCode.ENCLAVE_LOST)

    def fail_id_enclave(self, code):
        """Fail to load the ID enclave in the next InitQuoteEx; refuse this call and all later quoting calls."""
        uninitialised = AesmErrorCode.ATT_KEY_NOT_INITIALIZED
        self.run.codes = {INIT: code, SIZE: uninitialised, QUOTE: uninitialised}
        self.run.id_enclave_failed = True

    def restart(self):
        self.kill()
        self.start()
        self.asked.clear()

    def kill(self):
        """Crash without answers to open requests; the socket file stays."""
        self.run.crashed.set()
        self.run.end()

    def terminate(self):
        """End as after SIGTERM: refuse open requests with code 30, and remove the socket file."""
        self.run.ending.set()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.run.end()

    def _serve(self, run):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = run.listener.accept()
                threading.Thread(target=self._answer, args=(connection, run), daemon=True).start()

    def _answer(self, connection, run):
        session = ServerSession()
        with connection, contextlib.suppress(ConnectionError):
            request = None
            while request is None:
                try:
                    request = session.receive(connection.recv(65536))
                except (EOFError, ProtocolError):
                    self.log.append(ATTACK)
                    return
            answer = session.respond(self._respond(request, run))
            if not run.crashed.is_set():
                connection.sendall(self.garbage or answer[: self.cut])

    def _respond(self, request, run):
        self.asked.append(request.kind)
        if request.kind is NUM and self.recovering:
            self.codes, self.recovering = {}, False
        planned = plan(request)
        if request.kind is AT_ONCE:
            return self._refusal(request.kind, run) or planned
        with run.one_at_a_time:
            if isinstance(planned, Need):
                self._take_time(run)
            refusal = self._refusal(request.kind, run)
            if refusal is not None or not isinstance(planned, Need):
                return refusal or planned
            try:
                return self._call(planned, run)
            except QuoteProviderError as error:
                return planned.refuse(error.code)

    def _take_time(self, run):
        ended = (run.crashed, run.ending)
        while not self.hang.wait(0.01) and not any(event.is_set() for event in ended):
            pass
        run.crashed.wait(self.seconds)

    def _refusal(self, kind, run):
        if run.ending.is_set() and kind in QUOTING:
            return refuse(kind, AesmErrorCode.SERVICE_UNAVAILABLE)
        if kind in self.codes:
            self.log += self.lines
            return refuse(kind, self.codes[kind])
        if kind not in run.codes:
            return None
        refusal = refuse(kind, run.codes[kind])
        if kind is INIT and run.id_enclave_failed:
            run.codes = {}
        return refusal

    def _call(self, need, run):
        if isinstance(need, NeedIdentity):
            run.initialised = True
            identity = self.provider.identity()
            return need.answer(replace(identity, target_info=self.target_info or identity.target_info))
        if not run.initialised:
            return need.refuse(AesmErrorCode.ATT_KEY_NOT_INITIALIZED)
        if isinstance(need, NeedQuote):
            made = self.provider.quote(need.report, need.qe_report_info)
            quote = self._with_uninitialised_qe_id(made.quote) if run.id_enclave_failed else made.quote
            return need.answer(replace(made, quote=self.altered(quote)))
        return need.answer(len(self.altered(bytes(self.provider.quote_size()))))

    def _with_uninitialised_qe_id(self, data):
        quote = Quote.parse(data)
        quote = replace(quote, header=replace(quote.header, user_data=UNINITIALISED_QE_ID + bytes(4)))
        signed = sign(self.provider._quoting_enclave.attestation_key, quote.signed_part)
        return replace(quote, signature=replace(quote.signature, isv_signature=signed)).encode()


@contextlib.contextmanager
def running_stub(folder):
    """Run a stand-in, with its socket in the folder `private` and its platform's root in `root.pem`."""
    (folder / "private").mkdir(exist_ok=True)
    platform = open_or_create_platform(folder / "platform").platform
    (folder / "root.pem").write_bytes(platform.pki.root.pem)
    stub = StubAesmd(folder / "private" / "aesm.socket", SimulatedQuoteProvider(platform)).start()
    try:
        yield stub
    finally:
        stub.hang.set()
        stub.kill()

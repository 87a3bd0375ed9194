"""What a client of AESM is, as data: what it asks in which order, how it writes and reads, when it gives up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from confcom.aesm.messages import MessageKind
from confcom.sgx.report import NONCE_SIZE, Report
from confcom.simulation.enclave import SimulatedEnclave

Fields = Mapping[int, int | bytes]
"""The sub-message of an answer: values by field number."""


class Write(Enum):
    """How header and body leave a client."""

    AT_ONCE = "one write()"
    HEADER_FIRST = "one write() for the header, one for the body"


class Read(Enum):
    """How a client takes an answer."""

    UNTIL_COMPLETE = "read() until header and body are complete"
    ONCE = "one read() each for header and body; a short one is fatal"
    """Intel's client starts again at the buffer's beginning after a short read(), and crashes; inclavare's fails."""


class Address(Enum):
    """Where a client looks for the service."""

    FILE = "the socket's path, nothing else"
    ABSTRACT_FIRST = "the abstract name, and if nobody listens there the path"
    FILE_IF_IT_EXISTS = "the path if there is something, else the abstract name"


@dataclass(frozen=True, slots=True)
class Timers:
    """How long a client waits for each step, in seconds; None: for ever."""

    connect: float | None
    write: float | None
    read: float | None


@dataclass(frozen=True, slots=True)
class State:
    """What one client has learnt so far."""

    enclave: SimulatedEnclave
    report: Report | None = None
    """The newest, made for `target_info`."""
    nonce: bytes = bytes(NONCE_SIZE)
    """The newest, for qe_report_info."""
    key_count: int = 0
    key_id: bytes = b""
    pub_key_id_size: int = 0
    pub_key_id: bytes = b""
    target_info: bytes = b""
    quote_size: int = 0
    quote: bytes = b""
    """The newest, without padding."""


class ClientGivesUpError(Exception):
    """A client cannot use an answer; the text says what it would complain about."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what the client makes of the answer. That the error code is 0 is checked before `learn`.

    Args:
        call: which request.
        body: its bytes without the header.
        learn: what the client knows after the answer; raises ClientGivesUpError if it is of no use to it.
        read_timer: whether the client's timer for reading is set at all.
    """

    call: MessageKind
    body: Callable[[State], bytes]
    learn: Callable[[State, Fields], State]
    read_timer: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSequence:
    """One client.

    Args:
        name: for results.
        version: the release, or the commit of its public repository, that was read or recorded.
        start: what it asks once in a process' life.
        quote: what it asks for each quote.
        renew: what it asks, after 42, before it starts again with `quote`.
        stale_attempts: how often it does so for one quote: Gramine by itself; of the others, which leave it to the
            application, an application that does once what Intel's reference tells it to.
        served: whether a service that answers as Intel's does gives it a quote at all.
    """

    name: str
    version: str
    quote: tuple[Step, ...]
    start: tuple[Step, ...] = ()
    renew: tuple[Step, ...] = ()
    stale_attempts: int = 1
    address: Address = Address.FILE
    write: Write
    read: Read
    timers: Timers
    served: bool = True

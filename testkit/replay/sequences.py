"""The clients. Each is what its source or a recording shows it to do; see "What clients do" in the reference of AESM.

For a test, a benchmark or a soak: `ReplayedClient(GRAMINE, path).run()`, see `replay.runner`.
"""

from __future__ import annotations

from testkit.replay.model import Address, ClientSequence, Read, Timers, Write
from testkit.replay.runner import Exchange, ReplayedClient, Run
from testkit.replay.steps import (
    KEY_LIST,
    PUB_KEY_ID_SIZE,
    attested,
    echoed,
    init_for_size,
    init_for_target,
    key_count,
    key_ids,
    quote,
    quote_size,
    select,
)

__all__ = [
    "CLIENTS",
    "ENARX",
    "FORTANIX",
    "GRAMINE",
    "INCLAVARE",
    "INTEL_QL_WRAPPER",
    "INTEL_QUOTE_EX",
    "INTEL_SDK_RA",
    "OASIS",
    "OPEN_ENCLAVE",
    "Exchange",
    "ReplayedClient",
    "Run",
    "ql_wrapper",
]

INTEL_MS = 15_000
"""libsgx_quote_ex, release build (psw/uae_service/config.h)."""
FORTANIX_US = 30_000_000
SHORT_US = 1_000_000
"""oasis-core and early Enarx: one second in the unit that Fortanix' client introduced."""
GRAMINE_QUOTE_MAX_SIZE = 8192
JUNK = 140_723_891_626_680
"""Uninitialised stack that Intel's ql wrapper was seen to send as buf_size."""

INTEL_TIMERS = Timers(connect=None, write=15.0, read=15.0)
NO_TIMERS = Timers(connect=None, write=None, read=None)

INTEL_QUOTE_EX = ClientSequence(
    name="Intel libsgx_quote_ex",
    version="2.29",
    start=(key_count(INTEL_MS), key_ids(INTEL_MS), select(INTEL_MS)),
    quote=(
        init_for_size(INTEL_MS),
        init_for_target(INTEL_MS),
        quote_size(INTEL_MS),
        quote(INTEL_MS),
        quote(INTEL_MS, check=attested),
    ),
    write=Write.HEADER_FIRST,
    read=Read.ONCE,
    timers=INTEL_TIMERS,
)
"""Every call of the library once; its bytes are the recorded ones (`tests/vectors/aesm/intel229_*`)."""


def ql_wrapper(stack: int | None) -> ClientSequence:
    """Intel's ql wrapper, out of process. It has its key id compiled in and never asks for one.

    Args:
        stack: what its uninitialised variable happens to hold; 0 is not written at all.
    """
    return ClientSequence(
        name="Intel ql wrapper",
        version="commit f0ed77ed",
        quote=(
            init_for_size(INTEL_MS, buf_size=stack or None),
            init_for_target(INTEL_MS, buf_size=PUB_KEY_ID_SIZE),
            quote_size(INTEL_MS),
            quote(INTEL_MS),
        ),
        write=Write.HEADER_FIRST,
        read=Read.ONCE,
        timers=INTEL_TIMERS,
    )


INTEL_QL_WRAPPER = ql_wrapper(JUNK)

OPEN_ENCLAVE = ClientSequence(
    name="Open Enclave",
    version="commit 9497d36c",
    start=(key_count(INTEL_MS), key_ids(INTEL_MS)),
    quote=(
        init_for_size(INTEL_MS),
        init_for_target(INTEL_MS),
        quote_size(INTEL_MS),
        quote_size(INTEL_MS),
        quote(INTEL_MS),
    ),
    write=Write.HEADER_FIRST,
    read=Read.ONCE,
    timers=INTEL_TIMERS,
)
"""Through libsgx_quote_ex. A failure in `start` stays with the process for its whole life; the size is asked twice."""

INTEL_SDK_RA = ClientSequence(
    name="Intel SDK remote attestation",
    version="2.26",
    quote=(
        select(INTEL_MS, KEY_LIST),
        init_for_size(INTEL_MS),
        init_for_target(INTEL_MS),
        quote_size(INTEL_MS),
        quote(INTEL_MS, check=attested),
    ),
    write=Write.HEADER_FIRST,
    read=Read.ONCE,
    timers=INTEL_TIMERS,
)
"""sgx_ra_get_msg1_ex and msg3_ex: the enclave itself checks what the quoting enclave reports about the quote."""

_GRAMINE_INIT = (init_for_target(None, buf_size=PUB_KEY_ID_SIZE),)
GRAMINE = ClientSequence(
    name="Gramine",
    version="commit ff71d7af",
    start=_GRAMINE_INIT,
    quote=(quote(None, buf_size=GRAMINE_QUOTE_MAX_SIZE),),
    renew=_GRAMINE_INIT,
    stale_attempts=5,
    address=Address.ABSTRACT_FIRST,
    write=Write.HEADER_FIRST,
    read=Read.UNTIL_COMPLETE,
    timers=NO_TIMERS,
)
"""The target info is asked for once, when the enclave starts, and kept for its whole life; 42 alone makes it ask
again. It waits for ever."""

FORTANIX = ClientSequence(
    name="Fortanix aesm-client",
    version="0.6.3",
    start=(key_count(FORTANIX_US), key_ids(FORTANIX_US)),
    quote=(
        init_for_size(FORTANIX_US),
        init_for_target(None, read_timer=False),
        quote_size(FORTANIX_US),
        quote(FORTANIX_US, check=echoed),
    ),
    address=Address.FILE_IF_IT_EXISTS,
    write=Write.AT_ONCE,
    read=Read.UNTIL_COMPLETE,
    timers=Timers(connect=1.0, write=1.0, read=30.0),
)
"""connect() does not block: a full backlog is an error at once, not a wait of a second."""

OASIS = ClientSequence(
    name="oasis-core",
    version="Go client",
    start=(key_count(SHORT_US), key_ids(SHORT_US)),
    quote=(init_for_size(SHORT_US), init_for_target(SHORT_US), quote_size(SHORT_US), quote(SHORT_US)),
    write=Write.HEADER_FIRST,
    read=Read.UNTIL_COMPLETE,
    timers=NO_TIMERS,
)

INCLAVARE = ClientSequence(
    name="inclavare",
    version="sgx-tools",
    start=(select(INTEL_MS), init_for_size(INTEL_MS), init_for_target(INTEL_MS)),
    quote=(select(INTEL_MS), quote_size(INTEL_MS), quote(INTEL_MS)),
    renew=(select(INTEL_MS), init_for_size(INTEL_MS), init_for_target(INTEL_MS)),
    write=Write.HEADER_FIRST,
    read=Read.ONCE,
    timers=NO_TIMERS,
)
"""Two programs, one for the target info and one for the quote; each selects its key anew."""

ENARX = ClientSequence(
    name="Enarx",
    version="early Rust client",
    start=(select(SHORT_US, KEY_LIST), init_for_size(SHORT_US, use_target=True)),
    quote=(select(SHORT_US, KEY_LIST), quote_size(SHORT_US), quote(SHORT_US)),
    stale_attempts=0,
    write=Write.AT_ONCE,
    read=Read.UNTIL_COMPLETE,
    timers=NO_TIMERS,
    served=False,
)
"""It takes the zeros that InitQuoteEx(false) returns for the target info, with Intel's service as with ours; later
versions ask again with true."""

CLIENTS = (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, INTEL_SDK_RA, GRAMINE, FORTANIX, OASIS, INCLAVARE, ENARX)

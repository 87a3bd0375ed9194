"""In any order of steps, peers stay within limits, no connection is lost, and each peer has its reserve."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.message_codec import encode_response
from confcom.aesm.messages import AesmQuote, GetQuoteExRequest, GetSupportedAttKeyIdNumRequest
from confcom.aesm.request_checks import MAX_QUOTE_BUFFER_SIZE, NeedQuote, plan
from confcom.aesm.session import MAX_REQUEST_SIZE
from confcom.quote_helper.limits_and_deadlines import PEERS, UNREAD_OVERHEAD, UNREAD_RESERVE, HelperLimits
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.connections import (
    FEW_CONNECTIONS,
    Connections,
    largest_answer,
    largest_refusal,
)
from confcom.quote_helper.transport.peers import Peer
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import QE_REPORT_INFO_SIZE, REPORT_SIZE, QeReportInfo

LIMITS = HelperLimits(max_waiting=64, unread_memory=PEERS * UNREAD_RESERVE + (256 << 10))
REQUESTS = st.sampled_from([512, 8192, 13_346, 16_384]).map(lambda size: GetQuoteExRequest(b"", size))
STEPS = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "answer", "end", "give up"]),
    st.integers(0, PEERS - 2),
    st.integers(0, 1000),
    REQUESTS | st.just(GetSupportedAttKeyIdNumRequest()),
)

MANY = {"reads nothing": 3, "sends nothing": 4, "is small": 2}
"""Number of each peer's incomplete connections; the peer with the oldest connections is first."""


def new_connection(connections, peer, request):
    connection = Connection(None, Peer(peer, peer, 0))
    connection.request, connection.complete = request, True
    connections.add(connection)
    return connection


class Model:
    """Connections whose stage (paused, served, unread) changes with each step."""

    def __init__(self, limits):
        self.connections = Connections(limits)
        self.served, self.unread, self.paused = [], [], {}

    def step(self, what, peer, which, request):
        if what == "ask":
            connection = new_connection(self.connections, peer, request)
            if self.connections.serve(connection):
                self.served.append(connection)
            else:
                self.connections.pause(connection, 0.0)
                self.paused[connection] = None
        elif what == "answer" and self.served:
            connection = self.served.pop(which % len(self.served))
            size = max(0, largest_answer(connection.request) - UNREAD_OVERHEAD - which)
            self.connections.set_answered(connection, size)
            self.unread.append(connection)
        elif what == "end" and self.unread:
            self.connections.end(self.unread.pop(which % len(self.unread)))
        elif what == "give up" and self.paused:
            connection, _ = self.paused.popitem()
            self.connections.end(connection)
        self.resume()

    def resume(self):
        while (connection := self.connections.next_to_resume()) is not None:
            del self.paused[connection]
            self.connections.resume(connection)
            assert self.connections.serve(connection)
            self.served.append(connection)

    def end(self):
        """Let all served and paused connections be answered and end."""
        while self.served or self.unread:
            for what in ("answer", "end"):
                self.step(what, 0, 0, None)


@given(st.lists(STEPS, max_size=300))
def test_limits_hold_and_all_is_given_back_and_served(steps):
    model = Model(LIMITS)
    for step in steps:
        model.step(*step)
        held = sum(each.unread for each in (*model.served, *model.unread))
        assert model.connections.unread_memory == held <= LIMITS.unread_memory
    model.end()
    assert not model.paused
    assert (model.connections.unread_memory, len(model.connections), model.connections.unanswered) == (0, 0, 0)


@given(st.lists(STEPS, max_size=300), REQUESTS)
def test_a_peer_that_holds_nothing_is_served_whatever_others_hold(steps, request_):
    """There are as many other peers as Pods on a node, and these peers leave their answers unread."""
    model = Model(LIMITS)
    for what, *step in steps:
        model.step("ask" if what == "end" else what, *step)
    late = new_connection(model.connections, "late", request_)
    while model.served:
        model.step("answer", 0, 0, None)
    assert model.connections.serve(late)
    assert late.unread == largest_answer(request_) <= UNREAD_RESERVE


def test_many_greedy_peers_take_the_pool_and_no_reserve():
    model = Model(LIMITS)
    for _ in range(10):
        for peer in range(PEERS - 1):
            model.step("ask", peer, 0, GetQuoteExRequest(b"", 8192))
            model.step("answer", 0, 0, None)
    for connection in model.unread:
        assert connection.account.unread >= largest_answer(connection.request) - 1024
    late = new_connection(model.connections, "late", GetQuoteExRequest(b"", 16_384))
    assert model.connections.serve(late)


def test_a_peer_at_its_own_limit_delays_nobody_in_the_line():
    connections = Connections(HelperLimits(unread_memory=4 * UNREAD_RESERVE))
    large = GetQuoteExRequest(b"", 16_384)
    holders = [new_connection(connections, peer, large) for peer in range(4)]
    for connection in holders:
        assert connections.serve(connection)
        connections.set_answered(connection, UNREAD_RESERVE - UNREAD_OVERHEAD)
    of_holder, of_other = (new_connection(connections, peer, large) for peer in (0, "other"))
    for connection in (of_holder, of_other):
        assert not connections.serve(connection)
        connections.pause(connection, 0.0)
    assert connections.next_to_resume() is None
    connections.end(holders[3])
    assert connections.next_to_resume() is of_other


LARGE, SMALL = GetQuoteExRequest(b"", 16_384), GetSupportedAttKeyIdNumRequest()


def test_the_peer_with_the_most_places_is_shed_first():
    connections = Connections(HelperLimits(max_connections=2 * FEW_CONNECTIONS))  # a peer's first two are few
    for _ in range(5):  # unread answers take no places
        answered = new_connection(connections, "reads nothing", GetSupportedAttKeyIdNumRequest())
        assert connections.serve(answered)
        connections.set_answered(answered, 100)
    incomplete = {
        peer: [new_connection(connections, peer, None) for _ in range(places)] for peer, places in MANY.items()
    }
    for now, connection in enumerate(itertools.chain(*incomplete.values())):
        connections.set_incomplete(connection, now)
    for peer in ("sends nothing", "reads nothing"):
        shed = connections.to_shed(-1, -1)
        assert shed is incomplete[peer][0]
        for each in incomplete[peer][:-2]:
            connections.end(each)
    assert connections.to_shed(-1, -1) is None


@pytest.fixture
def connections():
    """Connections with shared memory for one large answer; one peer may hold all of this memory."""
    return Connections(HelperLimits(unread_memory=UNREAD_RESERVE))


def pause(connections, peer, *requests):
    paused = [new_connection(connections, peer, request) for request in requests]
    for connection in paused:
        connections.pause(connection, 0.0)
    return paused


def test_paused_peers_take_turns_for_what_all_share(connections):
    served = new_connection(connections, "first", LARGE)
    assert connections.serve(served)
    pause(connections, "a", LARGE, LARGE)
    pause(connections, "b", LARGE, LARGE)
    order = []
    for _ in range(4):
        connections.end(served)
        served = connections.next_to_resume()
        connections.resume(served)
        assert connections.serve(served)
        order.append(served.peer.key)
    assert order == ["a", "b", "a", "b"]


@pytest.mark.parametrize("less", ["end", "answered", "resume"])
def test_a_peer_that_is_set_aside_goes_on_when_it_holds_less(connections, less):
    served = new_connection(connections, "peer", LARGE if less != "resume" else SMALL)
    assert connections.serve(served)
    paused = pause(connections, "peer", *([LARGE] if less == "resume" else []), SMALL if less != "end" else LARGE)
    assert connections.next_to_resume() is None
    match less:
        case "end":
            connections.end(served)
        case "answered":
            connections.set_answered(served, 10)
        case "resume":
            connections.resume(paused[0])
    assert connections.next_to_resume() is paused[-1]


def test_a_peer_that_is_set_aside_joins_the_line(connections):
    first, other = (new_connection(connections, peer, LARGE) for peer in ("peer", "other"))
    assert connections.serve(first)
    paused = pause(connections, "peer", LARGE)
    assert connections.next_to_resume() is None
    connections.end(first)
    assert connections.serve(other)
    assert connections.next_to_resume() is None
    connections.end(other)
    assert connections.next_to_resume() is paused[0]


@given(
    report=st.sampled_from([b"", bytes(REPORT_SIZE)]),
    buf_size=st.integers(0, 2 * MAX_QUOTE_BUFFER_SIZE),
    key=st.sampled_from([None, ECDSA_P256_KEY_ID.encode()]),
    info=st.none() | st.sampled_from([QE_REPORT_INFO_SIZE, MAX_REQUEST_SIZE]) | st.integers(0, MAX_REQUEST_SIZE),
)
def test_no_answer_takes_more_than_was_counted(report, buf_size, key, info):
    """The largest possible answer may be a refusal that repeats the client's bytes."""
    request = GetQuoteExRequest(report, buf_size, key, None if info is None else bytes(info))
    planned = plan(request)
    refusal, answer = planned, planned
    if isinstance(planned, NeedQuote):
        refusal = planned.refuse(AesmErrorCode.BUSY)
        answer = planned.answer(AesmQuote(bytes(buf_size), None if info is None else QeReportInfo.parse(bytes(info))))
    assert len(encode_response(refusal)) + 4 + UNREAD_OVERHEAD <= largest_refusal(request) <= largest_answer(request)
    assert len(encode_response(answer)) + 4 + UNREAD_OVERHEAD <= largest_answer(request) <= UNREAD_RESERVE

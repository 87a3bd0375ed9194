"""Paused connections of thousands of peers: all get their turn, and the event loop has its own."""

import asyncio
from itertools import pairwise

import pytest

from confcom.quote_helper.limits_and_deadlines import EVENTS_PER_TURN, HelperLimits
from confcom.quote_helper.transport.connection import Holding
from confcom.quote_helper.transport.connection_table import ConnectionTable
from confcom.quote_helper.transport.paused_connections import PEERS_PER_TURN, PausedConnections

PEERS = 10 * PEERS_PER_TURN
TURNS = 200
"""More than it takes."""


class Paused:
    """A connection as far as it is looked at here."""

    complete = False

    def __init__(self, holding):
        self.holding = holding


class Table(ConnectionTable):
    """A table whose `may_resume` is the test's."""


@pytest.fixture
async def make():
    made = []

    def make(may_resume, resume):
        table = Table(HelperLimits())
        table.may_resume = may_resume
        paused = PausedConnections(table, resume=resume, refuse=lambda _: None, wait_seconds=3600.0, clock=lambda: 0.0)
        made.append(paused)
        return paused, table

    yield make
    for paused in made:
        paused.close()


async def most_in_a_turn(handled):
    """Wait for many turns of the event loop, and return how many were handled in one of them at most."""
    seen = [len(handled)]
    for _ in range(TURNS):
        await asyncio.sleep(0)
        seen.append(len(handled))
    return max(after - before for before, after in pairwise(seen))


async def test_peers_that_may_not_go_on_are_looked_at_once_and_in_turns(make):
    looked_at = []
    paused, table = make(looked_at.append, lambda _: None)
    for number in range(PEERS):
        paused.add(Paused(Holding(number)))
    table.freed()
    assert 0 < await most_in_a_turn(looked_at) <= PEERS_PER_TURN
    assert len(looked_at) == len(set(looked_at)) == PEERS


async def test_all_that_may_go_on_do_wherever_they_stand(make):
    """Every third peer has two connections, and may go on; those before and behind it may not."""
    went_on = []
    paused, table = make(lambda connection: connection.holding.peer % 3 == 0, went_on.append)
    connections = [Paused(Holding(number)) for number in range(PEERS)]
    connections += [Paused(connection.holding) for connection in connections[::3]]
    for connection in connections:
        paused.add(connection)
    table.freed()
    assert 0 < await most_in_a_turn(went_on) <= EVENTS_PER_TURN
    assert len(went_on) == len(set(went_on)) == 2 * len(connections[:PEERS:3])
    assert len(table.paused) == PEERS - len(connections[:PEERS:3])

"""The relay to aesmd, compared with direct requests to an aesmd stand-in that makes one quote per 2.5 ms."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.bare import bare_relay
from bench.load import Latency, prepare, serve_all, target_of
from bench.machine import OTHER, THIS, Checkout, Cores, on_core
from bench.other_user import attacking, running_as
from bench.report import Goal, Section, in_turn, say
from bench.serving import Place, Server, verify_sample
from confcom.quote_provider.state_directory import open_platform

ALONE, LOADED, CLIENTS = 200, 400, 8
"""Number of quotes per server and round, for one client and for several together; a quote takes 2.5 ms."""
ATTACKER = 65_530
"""A user ID that no distribution assigns."""
WARM_SECONDS = 2.0
"""Time for the attacker to start."""

ADDED = "the relay adds to the median"
BESIDE_BARE = "what it adds, in what a bare relay adds"
THROUGHPUT = f"throughput with {CLIENTS} clients, in that of asking directly"
GOALS = {BESIDE_BARE: Goal(1.5), THROUGHPUT: Goal(95.0, least=True)}


def measure_relay(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    cores = Cores()
    place = Place.create(directory, cores.server)
    section = Section("Relay to aesmd (a stand-in: 2.5 ms for a quote, one after the other)", [THIS, OTHER], GOALS)
    sample: list[tuple[bytes, bytes]] = []
    with contextlib.ExitStack() as stack:
        aesmd = stack.enter_context(place.aesmd(cores.clients))
        root = directory / "root.pem"
        root.write_bytes(open_platform(place.state_dir).pki.root.pem)
        flags = ("--provider", "aesmd", "--aesmd-socket", str(aesmd.socket), "--expected-root", str(root))
        relays = {
            side: stack.enter_context(place.helper(f"relay-{number}", checkout, *flags))
            for number, (side, checkout) in enumerate(sides.items())
        }
        bare = Server(0, directory / "bare.socket")
        stack.enter_context(bare_relay(bare.socket, aesmd.socket, cores.server))
        stack.enter_context(on_core(cores.clients))
        target, size = target_of(aesmd.socket)

        def ask(server: Server, quotes: int, clients: int) -> tuple[float, Latency]:
            served = serve_all(server.socket, prepare(target, size, quotes), clients=clients)
            sample.extend(served.sample)
            return quotes / served.seconds, Latency.of(served.latencies)

        for number in range(rounds):
            say(f"round {number + 1} of {rounds} of the relay")
            servers = {"direct": aesmd, "bare": bare, **relays}
            alone = {name: ask(server, ALONE, 1)[1] for name, server in in_turn(servers.items(), number)}
            rates = {name: ask(servers[name], LOADED, CLIENTS)[0] for name in in_turn(["direct", *relays], number)}
            direct = alone["direct"].p50
            section.add(THIS, "asked directly: p50 of one client", "ms", direct * 1e3)
            for side in relays:
                added = alone[side].p50 - direct
                section.add(side, "relayed: p50 of one client", "ms", alone[side].p50 * 1e3)
                section.add(side, "relayed: p99 of one client", "ms", alone[side].p99 * 1e3)
                section.add(side, ADDED, "ms", added * 1e3)
                section.add(side, BESIDE_BARE, "x", added / (alone["bare"].p50 - direct))
                section.add(side, THROUGHPUT, "%", rates[side] / rates["direct"] * 100)
            if os.geteuid() == 0:  # only root can run as another user
                for kind in ("header", "flood"):
                    for side, server in in_turn(relays.items(), number):
                        work = attacking(kind, partial(str, server.socket))
                        with running_as(ATTACKER, kind, work, core=cores.clients) as peer:
                            time.sleep(WARM_SECONDS)
                            latency = ask(server, ALONE, 1)[1]
                            peer.finish()
                        section.add(side, f"relayed, beside the attack {kind}: p50", "ms", latency.p50 * 1e3)
                        section.add(side, f"relayed, beside the attack {kind}: p99", "ms", latency.p99 * 1e3)
    say(f"verifying {len(sample)} quotes")
    verify_sample(sample, place.state_dir)
    return [section]

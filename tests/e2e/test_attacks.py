"""The attackers that run in Pods, against a helper process here; and what is told of an attack."""

import json
import os
import select
import socket
import subprocess
import sys

import pytest

from bench.summary import Latency
from confcom.aesm.session import ProtocolViolation, ServerSession
from e2e.attacks import held as held_module
from e2e.attacks import requests
from e2e.attacks.held import Counts, Held, connect, unread_bytes
from e2e.attacks.kinds import KINDS
from e2e.attacks.outcome import MIB, DaemonSeen, Period, table
from e2e.attacks.pods import PROGRAMS, Attacker, config_map
from e2e.load.attestation import Attestation
from testkit.replay import wire
from testkit.replay.helper import running_helper

AS_ROOT = {"gone-peers-held", "gone-peers", "effective-users", "unread-by-users", "incomplete-by-users", "complaints"}
SECONDS = "0.3"
DAEMON = DaemonSeen("quote-helper", 0, 0, True, (20 * MIB, 30 * MIB), 31 * MIB, 256 * MIB, 7)


@pytest.fixture(scope="module")
def helper():
    with running_helper() as running:
        running.socket.parent.chmod(0o755)  # attackers are other users
        yield running


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The files of the ConfigMap, as a Pod mounts them."""
    folder = tmp_path_factory.mktemp("code")
    items = Attacker("unread", root=False).manifest("a", 1.0, ())["spec"]["volumes"][0]["configMap"]["items"]
    data = config_map()["data"]
    for item in items:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data[item["key"]])
    assert len(items) == len(PROGRAMS)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_each_attack_runs_with_what_a_pod_has_and_tells_what_it_did(helper, code, kind):
    if kind in AS_ROOT and os.geteuid() != 0:
        pytest.skip("being other users takes root")
    where = str(helper.probes if "probes" in kind else helper.socket)
    done = subprocess.run(
        [sys.executable, "-m", "e2e.attacks", kind, SECONDS, where],
        cwd=code,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (counts,) = json.loads(done.stdout).values()
    assert counts["made"] > 0
    assert helper.process.poll() is None


def test_the_unread_answer_is_a_whole_quote_in_the_longest_buffer(helper):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(helper.socket))
        client.sendall(requests.quote_request(str(helper.socket), lambda: False))
        select.select([client], [], [], 30)
        assert unread_bytes(client) > requests.LONGEST
        answer = bytearray()
        while chunk := client.recv(requests.LONGEST):
            answer += chunk
    fields = wire.fields(wire.fields(bytes(answer[wire.HEADER_SIZE :]))[17])
    assert len(fields[2]) == requests.LONGEST


def test_an_attacker_to_whom_nobody_answers_ends_when_its_time_is_over(tmp_path):
    asked = iter([False, True])
    assert requests.quote_request(str(tmp_path / "nobody"), lambda: next(asked))


@pytest.mark.parametrize("answer", [b"", wire.frame(wire.data(15, wire.number(1, 1)))])
def test_an_answer_without_target_info_is_told(answer):
    with pytest.raises(ValueError, match="no target info"):
        requests.target_info_in(answer)


def test_an_incomplete_request_is_no_violation_and_a_malformed_one_is():
    assert ServerSession().receive(requests.INCOMPLETE) is None
    assert isinstance(ServerSession().receive(requests.MALFORMED), ProtocolViolation)


def test_what_is_not_worth_holding_is_closed_and_the_oldest_where_there_is_no_room():
    now = [0.0]
    held = Held(3, lambda _, events: not events, clock=lambda: now[0])
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        held.add(ours)
    assert held.full
    now[0] = held_module.LOOK_SECONDS
    held.look()
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True, False, False]
    pairs[2][1].close()
    held.look()
    assert len(held) == 2
    now[0] *= 2
    held.look()
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True, False, True]
    held.close()
    assert held.counts == Counts(most_held=3)
    for _, theirs in pairs:
        theirs.close()


def test_a_connection_that_nobody_takes_is_counted(tmp_path):
    counts = Counts()
    assert connect(str(tmp_path / "nobody"), b"", counts) is None
    assert counts == Counts(refused=1)


def test_a_period_has_what_began_in_it():
    def one(began, failure=""):
        return Attestation(began, False, (began / 1000,), 0, failure, ())

    period = Period.of("attacked", [one(1.0), one(2.0), one(3.0, "refused"), one(4.0)], 2.0, 4.0)
    assert period == Period("attacked", 2, ("refused",), Latency(2, 0.002, 0.003, 0.003))


def test_a_table_tells_failures_by_their_reason():
    period = Period("attacked", 3, ("refused", "refused", "timed out"), Latency(4, 0.001, 0.002, 0.0035))
    head, row, refused, timed_out, daemons, daemon = table([period], [DAEMON])
    assert row.split() == ["attacked", "3", "3", "4", "1.00", "2.00", "3.5"]
    assert (refused.split()[2:], timed_out.split()[2:]) == (["2", "times", "refused"], ["1", "times", "timed", "out"])
    assert daemon.split() == ["quote-helper", "0", "0", "always", "20.0", "30.0", "31.0", "256", "7"]
    assert len(head) == len(row)
    assert len(daemons) == len(daemon)


def test_a_daemon_that_was_unharmed_has_nothing_to_complain_about():
    assert DAEMON.complaints == []
    harmed = DaemonSeen("quote-helper", 1, 2, False, (), 0, 256 * MIB, 0)
    assert harmed.complaints == [
        "quote-helper: 1 restarts",
        "quote-helper: 2 failed probes",
        "quote-helper: was not ready all the time",
    ]


def test_the_attacker_without_privileges_fits_the_strictest_level():
    unprivileged, root = (Attacker("unread", root=is_root) for is_root in (False, True))
    assert (unprivileged.level, root.level) == ("restricted", "baseline")
    (container,) = unprivileged.manifest("a", 1.0, ("/socket",))["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["command"][-3:] == ["unread", "1.0", "/socket"]

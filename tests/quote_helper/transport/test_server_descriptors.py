"""Descriptors run out in a real process: what it had goes on, nobody is turned away, and it recovers by itself."""

import resource
import socket
from pathlib import Path

from confcom.errors import ExitCode


def test_without_descriptors_clients_wait_and_are_served_when_there_are_some_again(start_helper, vector):
    helper = start_helper().wait_ready()
    request, answer = vector("intel229_num"), vector("resp_intel229_num")
    limits = resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path(f"/proc/{helper.process.pid}/fd").iterdir())
    # As when all descriptors but those in use had been taken.
    resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    # The reserve serves them one after the other.
    assert [helper.send(request) for _ in range(3)] == [answer] * 3
    waiting = []
    for _ in range(highest + 8):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(helper.socket))
        client.sendall(request[:2])
        waiting.append(client)
    # No probe is answered meanwhile: the log alone tells of the pause.
    helper.wait_until(lambda: helper.events("accepting-paused"))
    resource.prlimit(helper.process.pid, resource.RLIMIT_NOFILE, limits)
    for client in waiting:
        client.sendall(request[2:])
    # Those of one peer that it let in first may have gone for the others; the last of them never.
    assert waiting[-1].recv(1000) == answer
    assert helper.send(request) == answer
    for client in waiting:
        client.close()
    helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    assert helper.metric("confcom_quote_helper_accepting_paused_total") >= 1
    assert helper.stop() == ExitCode.OK

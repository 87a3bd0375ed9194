"""Accepting: pauses that clients can cause, and descriptors."""

import asyncio
import contextlib
import errno
import socket
from pathlib import Path

from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import InitQuoteExRequest
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from testkit.helper_in_process import RunningServer

INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)
RETRY_SECONDS = 0.01


async def test_pauses_of_accepting_that_clients_can_cause_do_not_fill_the_log(in_process, provider, not_yet, caplog):
    provider.fail(not_yet)
    async with in_process(
        provider, max_connections=2, crowded_retry_seconds=3600.0, self_test_retry_seconds=(3600.0,)
    ) as helper:
        waiting = [_send(helper.socket, INIT) for _ in range(4)]
        pauses = "confcom_quote_helper_accepting_paused_total"
        for count in range(1, 20):
            await helper.metric_reaches(pauses, count)
            waiting.pop(0).close()
            waiting.append(_send(helper.socket, INIT))
        for client in waiting:
            client.close()
    assert [getattr(record, "event", "") for record in caplog.records].count("accepting-paused") == 1


async def test_nothing_stays_open_of_a_helper_that_ends_with_clients_connected(in_process, provider, short_dir):
    async with in_process(provider) as helper:
        await helper.ready()
    before = open_descriptors()
    for _ in range(5):
        async with in_process(provider, receive_drain_seconds=0.0, drain_seconds=0.0) as helper:
            await helper.ready()
            _, writer = await asyncio.open_unix_connection(helper.socket)
            await helper.metric_reaches("confcom_quote_helper_connections", 1.0)
            helper.task.cancel()
            await asyncio.wait({helper.task})
        writer.close()
        await asyncio.wait_for(_closed(writer), 30)
    assert open_descriptors() <= before


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def _closed(writer):
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _send(path, request):
    """The loop does not run meanwhile, so the request is there when the helper accepts."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.sendall(encode_frame(encode_request(request)))
    return client


class Destitute:
    """A listening socket from which nothing can be accepted for want of descriptors."""

    def __init__(self, sock):
        self._sock = sock

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def _accept(self):
        raise OSError(errno.EMFILE, "Too many open files")


async def test_without_descriptors_one_timer_tries_again_and_none_outlives_the_server(short_dir, provider):
    harness = RunningServer(short_dir / "s", provider, accept_retry_seconds=RETRY_SECONDS)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_dir / "destitute"))
        listener.listen()
        harness.server.add_listener(Destitute(listener))
        harness.connect("client", path=short_dir / "destitute")
        await harness.observer.until(lambda: harness.observer.count("paused") >= 5)
        harness.close()
        before = open_descriptors()
        await asyncio.sleep(5 * RETRY_SECONDS)
        assert open_descriptors() == before

"""Accepting: pauses that clients can cause, and descriptors."""

import asyncio
import contextlib
import errno
import select
import socket
from pathlib import Path

from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import InitQuoteExRequest
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.transport.acceptor import Acceptor
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)


async def test_pauses_of_accepting_that_clients_can_cause_do_not_fill_the_log(in_process, provider, not_yet, caplog):
    def not_ready():
        raise not_yet

    provider.before = not_ready
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
    lines = [record for record in caplog.records if "no connection is accepted" in record.message]
    assert len(lines) == 1


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
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def _accept(self):
        self.asked += 1
        raise OSError(errno.EMFILE, "Too many open files")


async def test_without_descriptors_one_timer_tries_again_and_none_outlives_the_acceptor(tmp_path):
    loop = asyncio.get_running_loop()
    with select.epoll() as epoll, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        listener = Destitute(sock)
        limits = HelperLimits(accept_retry_seconds=0.01)
        acceptor = Acceptor(
            epoll=epoll,
            room=lambda: 1,
            shed=lambda: False,
            admit=lambda _: None,
            paused=lambda _: None,
            limits=limits,
            clock=loop.time,
        )
        acceptor.add(listener)
        for _ in range(5):
            acceptor.accept_from(sock.fileno())
            acceptor.resume()
        assert listener.asked >= 5
        acceptor.close()
        before = open_descriptors()
        over = asyncio.Event()
        loop.call_later(2 * limits.accept_retry_seconds, over.set)
        await over.wait()
        assert open_descriptors() == before

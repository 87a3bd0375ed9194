"""A rollback: the newest of several instances is the one that is stopped."""

import asyncio
import itertools
import threading

from confcom.aesm.messages import GetSupportedAttKeyIdNumRequest, InitQuoteExRequest
from confcom.quote_helper.takeover.takeover_policy import Instance
from confcom.sgx.key_id import ECDSA_P256_KEY_ID

INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)


def test_every_other_instance_is_newer_than_one_that_ends():
    newest = Instance.started(10**18, b"\xff\xff\xff")
    assert newest.as_oldest < Instance.started(1_000_000, b"\0\0\0")
    assert Instance.parse(f".aesm.socket.{newest.as_oldest.mark}") == newest.as_oldest


def test_a_rollback_loses_no_request(start_helper, ask, wait_until):
    old = start_helper(name="old").wait_ready()
    new = start_helper(name="new").wait_ready()
    wait_until(lambda: "newer" in old.get("/readyz")[1])
    failures, over, answered = [], threading.Event(), itertools.count()

    def client():
        while not over.is_set():
            try:
                assert ask(old.socket, INIT).error_code == 0
                next(answered)
            except Exception as error:  # noqa: BLE001 # whatever it is, a client saw it
                failures.append(error)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    assert new.stop() == 0
    old.wait_ready()
    over.set()
    for thread in clients:
        thread.join()
    assert next(answered) > 0
    assert not failures


async def test_who_stops_alone_serves_until_the_path_is_gone(in_process, provider):
    async with in_process(provider, hand_back_seconds=30.0) as helper:
        await helper.ready()
        helper.stopping.set()
        await helper.eventually(lambda: _says(helper, 503))
        assert (await helper.ask(GetSupportedAttKeyIdNumRequest())).error_code == 0
        helper.socket.unlink()
        async with asyncio.timeout(20):
            await helper.task


async def _says(helper, status):
    return (await helper.get("/readyz"))[0] == status

"""A keeper of the AESM socket's path, with a server in miniature."""

import asyncio
import contextlib

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import InitQuoteExResponse
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.daemon.worker import Worker
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import Instance
from testkit.waiting import until

WAIT_SECONDS = 30
LIMITS = HelperLimits(
    socket_tick_seconds=0.005,
    holder_target_seconds=0.5,
    holder_examination_seconds=0.01,
    holder_answer_seconds=0.1,
    accept_drain_seconds=0.5,
)


class ListenerHost:
    """In an AesmServer's place, serves listeners: InitQuoteEx only, with a target info or a refusal, or not at all."""

    def __init__(self, target_info):
        self.target_info = target_info
        self.hangs = False
        self.listeners = []
        self.served = set()

    def add_listener(self, listener):
        self.listeners.append(listener)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def remove_listener(self, listener):
        if listener in self.listeners:
            self.listeners.remove(listener)
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def _accept(self, listener):
        with contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            task = asyncio.get_running_loop().create_task(self._serve(client))
            self.served.add(task)
            task.add_done_callback(self.served.discard)
            # Also if it is ended before it began.
            task.add_done_callback(lambda _: client.close())

    async def _serve(self, client):
        client.setblocking(False)
        loop, session = asyncio.get_running_loop(), ServerSession()
        while data := await loop.sock_recv(client, 4096):
            match session.receive(data):
                case RequestReceived() if not self.hangs:
                    await loop.sock_sendall(client, session.respond(self._answer()))
                    return

    def _answer(self):
        if self.target_info is None:
            return InitQuoteExResponse(AesmErrorCode.SERVICE_UNAVAILABLE, pub_key_id_size=32)
        return InitQuoteExResponse(
            AesmErrorCode.SUCCESS, target_info=self.target_info, pub_key_id_size=32, pub_key_id=bytes(32)
        )


class RunningKeeper:
    """A SocketKeeper with what it needs around it."""

    def __init__(self, path, started, *, target_info=b"T" * 512, replace_foreign=False, open_to_all=False):
        self.host = ListenerHost(None)
        self.can_quote_for = target_info
        self.policy = StaleTargetPolicy(1000, lambda: 0.0)
        self.worker = Worker("look")
        self.changed = asyncio.Event()
        self.keeper = SocketKeeper(
            path,
            me=Instance(started, started),
            server=self.host,
            worker=self.worker,
            stale=self.policy,
            limits=LIMITS,
            replace_foreign=replace_foreign,
            open_to_all=open_to_all,
            on_change=self.changed.set,
        )
        self.task = None

    async def start(self):
        await self.keeper.start()
        self.task = asyncio.create_task(self.keeper.run())
        return self

    async def quoting(self):
        """Start it, and have it make a quote."""
        await self.start()
        self.quote()
        return self

    def quote(self):
        self.host.target_info = self.can_quote_for
        self.policy.quotes_for(self.can_quote_for)
        self.keeper.set_can_quote(can_quote=True)

    @property
    def code(self):
        """Why it does not serve; None if it does."""
        return self.keeper.problem and self.keeper.problem.code

    async def until(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.code):
                self.changed.clear()
                await self.changed.wait()

    async def serves(self):
        await self.until(lambda code: code is None)

    async def waits(self, why):
        await self.until(lambda code: code == why)

    async def tick(self):
        """Have it look once more."""
        self.keeper._wake.set()
        await until(lambda: not self.keeper._wake.is_set())
        await self.worker.submit(lambda: None)

    async def end(self):
        """Without leaving: as a killed process, whose sockets the kernel closes."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        for listener in list(self.host.listeners):
            self.host.remove_listener(listener)
            listener.close()
        for task in self.host.served:
            task.cancel()
        if self.host.served:
            await asyncio.wait(self.host.served)
        self.worker.close()

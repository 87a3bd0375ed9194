"""One instance of the device plugin, as a process of its own."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from chaos.watched_node import PATIENCE_SECONDS

REAL = ("-m", "confcom.device_plugin")
PLANTED = str(Path(__file__).with_name("planted.py"))
LOOKS_OFTEN = (PLANTED, "no_bug")
"""The real one, but that it looks at the host every few milliseconds."""


class Instance:
    """A running plugin.

    Args:
        process: its process.
        probe: the socket of its probes.
        log: where its log goes.
    """

    def __init__(self, process, probe, log):
        self.process = process
        self.log = log
        self._probe = probe

    @classmethod
    async def start(cls, layout, name, simulated_epc_mib=None, program=REAL):
        """Start one beside a node, for hardware if it is to simulate nothing; it is not waited for."""
        probe, log = layout.directory / f"{name}.probe", layout.directory / f"{name}.log"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CONFCOM_")}
        simulated = ("--simulated", "--simulated-epc-mib", str(simulated_epc_mib)) if simulated_epc_mib else ()
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *program,
                *simulated, "--helper-epc-mib", "0",
                "--host-root", str(layout.directory / "host"),
                "--device-plugin-dir", str(layout.device_plugin_dir), "--probe-address", f"unix:{probe}",
                "--log-format", "json",
                stderr=errors, env=environ,
            )  # fmt: skip
        return cls(process, probe, log)

    @property
    def alive(self):
        return self.process.returncode is None

    async def get(self, path):
        """Status and body, or None while nobody answers."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._probe))
        except OSError:
            return None
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE_SECONDS):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        except ConnectionError:
            return None
        finally:
            writer.close()
        return (int(head.split()[1]), body) if body else None

    async def resources(self):
        """Its inventory's resources by name; empty while it does not answer."""
        answer = await self.get("/inventory")
        return {} if answer is None else {one["name"]: one for one in json.loads(answer[1])["resources"]}

    async def ready(self):
        """Wait until it says that it is ready."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            # A socket that is not there yet tells nobody when it comes.
            while (answer := await self.get("/readyz")) is None or answer[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def end(self, number=signal.SIGKILL):
        """Send a signal and wait for the end; returns the exit code."""
        if self.alive:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()

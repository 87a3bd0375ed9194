"""Gets the inventory of a device plugin by HTTP, within limits of size and time."""

from __future__ import annotations

import asyncio

import httpx2

from confcom.controller.limits_and_deadlines import INVENTORY_BYTES, INVENTORY_SECONDS, PLUGINS_AT_ONCE
from confcom.controller.reconcile.inventory import malformed_inventory
from confcom.errors import UnavailableError


class InventoryClient:
    """Gets inventories by HTTP.

    Args:
        port: of the plugins' probe servers.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        # One request per connection, as the probe server has it; no proxies, and no redirects to anywhere else.
        self._client = httpx2.AsyncClient(
            timeout=INVENTORY_SECONDS,
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "Connection": "close"},
            limits=httpx2.Limits(max_connections=PLUGINS_AT_ONCE, max_keepalive_connections=0),
        )

    async def fetch(self, address: str) -> bytes:
        """Return a plugin's inventory.

        Raises:
            UnavailableError: no answer came in time.
            MalformedError: the answer is too large, or no inventory.
        """
        try:
            async with (
                asyncio.timeout(INVENTORY_SECONDS),
                self._client.stream("GET", f"http://{address}:{self._port}/inventory") as response,
            ):
                if response.status_code != httpx2.codes.OK:
                    raise malformed_inventory(f"it answered {response.status_code}")
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > INVENTORY_BYTES:
                        raise malformed_inventory(f"it has more than {INVENTORY_BYTES} bytes")
                return bytes(body)
        except (TimeoutError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise UnavailableError(
                "the device plugin does not answer",
                error_code="plugin-unavailable",
                why=str(error) or type(error).__name__,
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

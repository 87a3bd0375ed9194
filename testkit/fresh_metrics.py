import time

from confcom.daemon.probe_server import RENDERING_SECONDS, SLICE_SECONDS


class FreshPage:
    """The times when a daemon renders its metrics page anew, provided that only this client asks for it."""

    def __init__(self, rendering_seconds: float = RENDERING_SECONDS) -> None:
        self._rendering_seconds = rendering_seconds
        self._due = 0.0

    def wait(self) -> None:
        """Wait until the next request gets a newly rendered page; the first request always does."""
        time.sleep(max(0.0, self._due - time.monotonic()))

    def received(self) -> None:
        """Record that a page has arrived, which was rendered before this moment."""
        self._due = time.monotonic() + self._rendering_seconds + 2 * SLICE_SECONDS

import time

from confcom.daemon.probe_server import RENDERING_SECONDS, SLICE_SECONDS


class FreshPage:
    """Computes when a daemon renders its metrics page again, if no other client requests the page."""

    def __init__(self, rendering_seconds: float = RENDERING_SECONDS) -> None:
        self._rendering_seconds = rendering_seconds
        self._due = 0.0

    def wait(self) -> None:
        """Wait until a request would get a newly rendered page; before the first request, return at once."""
        time.sleep(max(0.0, self._due - time.monotonic()))

    def received(self) -> None:
        """Record that a page has just arrived; the daemon rendered the page before this moment."""
        self._due = time.monotonic() + self._rendering_seconds + 2 * SLICE_SECONDS

"""Worker processes of a verifier, as the kernel shows them, and faults that tests put into them."""

import contextlib
import os
import select
from pathlib import Path

FAULTY = """
import os, time
from pathlib import Path
from confcom.verify import verifier

decide = verifier.verify_quote
once = Path({once!r})

def faulty(quote, *rest):
    if quote.endswith(b"crash"):
        once.with_suffix(".crashes").open("a").write(".")
        os.kill(os.getpid(), 9)
    if quote.endswith(b"hang"):
        time.sleep(1000)
    if quote.endswith(b"crash once"):
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), 9)
        quote = quote.removesuffix(b"crash once")
    return decide(quote, *rest)

verifier.verify_quote = faulty
"""
"""A sitecustomize of the workers: a quote that ends in these words has the fault."""


def workers_of(parent):
    """The ids of a process' workers, in order of their start."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(directory.name)
            is_worker = b"confcom.quote_worker" in (directory / "cmdline").read_bytes()
            if is_worker and int((directory / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(pid)
    return sorted(found)


class Watched:
    """Processes, by descriptors, so that an id that is used again is not mistaken for them."""

    def __init__(self, pids):
        self.descriptors = {pid: os.pidfd_open(pid) for pid in pids}

    def left(self, seconds):
        """The ids of the processes that have not ended after this time."""
        poll = select.poll()
        waiting = {descriptor: pid for pid, descriptor in self.descriptors.items()}
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        while waiting and (events := poll.poll(seconds * 1000)):
            for descriptor, _ in events:
                poll.unregister(descriptor)
                os.close(descriptor)
                del waiting[descriptor]
        return sorted(waiting.values())

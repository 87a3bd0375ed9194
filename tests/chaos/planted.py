"""The device plugin with a bug that its first argument names: what chaos must find."""

import asyncio
import os
import sys

from confcom.device_plugin import main as composition
from confcom.device_plugin import registration
from confcom.device_plugin.endpoint import Endpoint
from confcom.device_plugin.registration import RegistrationCause


async def _never(*_):
    await asyncio.Event().wait()


async def _soon(*_):
    await asyncio.sleep(0.01)
    return RegistrationCause.STREAM_LOST


async def _only_streams(endpoint, _siblings):
    await endpoint.servicer.streams.lost.wait()
    return RegistrationCause.STREAM_LOST


def forgets_lost_streams():
    registration._until_lost = _never


def registers_in_a_loop():
    registration._until_lost = _soon
    registration.STEADY_SECONDS = 0.0


def never_looks_for_its_socket():
    registration._until_lost = _only_streams


def trusts_its_socket():
    Endpoint.answers = lambda _self: True


def one_name_for_all():
    composition.unused_instance = lambda *_: "000"


BUGS = {
    forgets_lost_streams: "not settled after",
    registers_in_a_loop: "was registered [0-9]+ times, at most",
    never_looks_for_its_socket: "is registered with .*, which is gone",
    trusts_its_socket: "not settled after .* is not registered: ",
    one_name_for_all: "not settled after",
}
"""Each with what chaos says of it."""

if __name__ == "__main__":
    next(bug for bug in BUGS if bug.__name__ == sys.argv[1])()
    sys.exit(composition.main(sys.argv[2:], prog="planted", environ=os.environ, stderr=sys.stderr))

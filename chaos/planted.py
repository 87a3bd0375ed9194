"""The device plugin with a bug that its first argument names: what chaos must find.

Whatever the bug, it looks at the host often: a device that is back is seen steadily for seconds otherwise.
"""

import asyncio
import os
import sys
from unittest import mock

from confcom.device_plugin import main as composition
from confcom.device_plugin.discovery import device_watch
from confcom.device_plugin.discovery.device_watch import DeviceWatch
from confcom.device_plugin.kubelet import registration
from confcom.device_plugin.kubelet.endpoint import Endpoint
from confcom.device_plugin.kubelet.registration import RegistrationCause
from confcom.device_plugin.kubelet.socket_names import PeerInstances


def plant(target, name, value):
    """Replace an attribute that is there: a plant in a name that is gone would do nothing."""
    mock.patch.object(target, name, value).start()


async def _never(*_):
    await asyncio.Event().wait()


async def _soon(*_):
    await asyncio.sleep(0.01)
    return RegistrationCause.STREAM_LOST


def no_bug():
    pass


def forgets_lost_streams():
    plant(registration, "_until_lost", _never)


def registers_in_a_loop():
    plant(registration, "_until_lost", _soon)
    plant(registration, "STABLE_SECONDS", 0.0)


def never_looks_for_its_socket():
    plant(Endpoint, "path_exists", lambda _self: True)


def trusts_its_socket():
    plant(Endpoint, "is_live", lambda _self: True)


def forgets_other_instances():
    plant(PeerInstances, "any_ended", lambda _self: False)


def never_looks_at_the_device():
    plant(DeviceWatch, "poll", lambda _self: None)


def one_name_for_all():
    plant(composition, "unused_instance", lambda *_: "000")


if __name__ == "__main__":
    plant(device_watch, "POLL_SECONDS", 0.02)
    globals()[sys.argv[1]]()
    sys.exit(composition.main(sys.argv[2:], prog="planted", environ=os.environ, stderr=sys.stderr))

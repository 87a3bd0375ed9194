import signal

import pytest

from confcom.device_plugin.resources import ENCLAVE_RESOURCE, EPC_RESOURCE, HELPER_RESOURCE, PROVISION_RESOURCE
from testkit.kubelet import Kubelet
from testkit.plugin_process import PluginProcess


@pytest.fixture
def directory(short_dir):
    """The device plugin directory; gRPC reads the paths in it as URIs."""
    made = short_dir / "a b%20c#"
    made.mkdir()
    return made


@pytest.fixture
async def kubelet(directory):
    made = Kubelet(directory)
    yield made
    await made.stop()


@pytest.fixture
async def start_plugin(short_dir, directory):
    """Start a plugin process; all are ended, and no line of their logs is anything but JSON."""
    started = []

    async def start(*arguments, simulated=True, **how):
        own = ("--simulated", "--host-root", str(short_dir / "host")) if simulated else ()
        arguments = ("--device-plugin-dir", str(directory), *own, *arguments)
        started.append(await PluginProcess.start(short_dir, f"p{len(started)}", *arguments, **how))
        return started[-1]

    yield start
    for plugin in started:
        await plugin.end(signal.SIGTERM)
        plugin.lines()


@pytest.fixture
def start_listed(kubelet, start_plugin):
    """Start the kubelet and a plugin, and wait until the kubelet has the lists of these resources."""

    async def start(*arguments, lists=(EPC_RESOURCE, ENCLAVE_RESOURCE, PROVISION_RESOURCE, HELPER_RESOURCE), **how):
        await kubelet.start()
        plugin = await start_plugin(*arguments, **how)
        await kubelet.until_list(*lists)
        return plugin

    return start

"""Debian's Prometheus scrapes real daemons, while the test makes the cause of each alert and ends the cause."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import yaml

import confcom
from confcom.aesm.error_code import AesmErrorCode
from confcom.client import AesmClient
from confcom.errors import ConfcomError
from confcom.quote_provider.state_directory import ROOT_FOLDER
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.root_seed import RootSeed
from testkit.chart_golden import CHART
from testkit.controller import EPC, KUBECONFIG, ApiServer, http, plugin_pod, pod, written
from testkit.documentation import blocks
from testkit.helper_process import ALTERED
from testkit.hosts.tree import HostTree
from testkit.kubelet import Kubelet
from testkit.stub_aesmd import QUOTING, running_stub

RULES = CHART / "files" / "alerts.yaml"
PATIENCE_SECONDS = 120
"""Longest wait for an alert; most take a few seconds. The controller reads the Pods of a node every 30 s at least."""
WINDOW = "15s"
"""Stands for the rules' ranges of minutes and hours; `for` is zero."""
SCRAPE = "500ms"
YEARS_OF_A_ROOT, DAY = 20, 86400
OTHER_VERSION = """
import confcom
from confcom.extras import run_as_module
confcom.__version__ = "another"
run_as_module("quote_helper", "quote-helper")
"""
WITH_LOOPBACK_PODS = """
from confcom.controller import facts
from confcom.extras import run_as_module
facts._address = lambda text: text
run_as_module("controller", "controller")
"""
"""A controller that also asks plugins at loopback addresses, which Pods cannot have."""
JOBS = {"simulated": "quote-helper", "second": "quote-helper", "relay": "quote-helper"}
JOBS |= {"plugin": "device-plugin", "controller": "controller"}
"""Keyed by the daemon's name in this test, which stands for the Pod and the node."""

pytestmark = [pytest.mark.timeout(600)]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def with_short_times(rules):
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"
        rule["expr"] = re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", rule["expr"])
    return rules


class World:
    """The daemons, Prometheus, and the programs that the daemons talk to."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.ports = {name: free_port() for name in (*JOBS, "prometheus")}
        self.running = {}

    def start(self, name, *arguments, program=()):
        self.stop(name)
        module = {"quote-helper": "quote_helper", "device-plugin": "device_plugin"}.get(JOBS[name], JOBS[name])
        command = [sys.executable, *(program or ("-m", f"confcom.{module}")), *map(str, arguments)]
        command += ["--probe-address", f"127.0.0.1:{self.ports[name]}"]
        self.run(name, command)

    def start_second(self, *arguments, state="state", program=()):
        self.start("second", *self.simulated("second", state), *arguments, program=program)

    def simulated(self, name, state="state"):
        return "--simulated", "--state-dir", self.folder / state, "--socket", self.folder / f"{name}.socket"

    def run(self, name, command):
        log = self.stack.enter_context((self.folder / f"{name}.log").open("ab"))
        self.running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self, name):
        if process := self.running.pop(name, None):
            process.kill()
            process.wait()

    def stop_all(self):
        for name in [*self.running]:
            self.stop(name)

    def start_prometheus(self, program):
        (self.folder / "rules.yaml").write_text(json.dumps(with_short_times(yaml.safe_load(RULES.read_text()))))
        targets = [
            {
                "targets": [f"127.0.0.1:{self.ports[name]}"],
                "labels": {"job": job, "namespace": "sgx", "pod": f"pod-{name}", "node": name},
            }
            for name, job in JOBS.items()
        ]
        times = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
        scraped = {"job_name": "confcom", "static_configs": targets}
        config = {"global": times, "rule_files": ["rules.yaml"], "scrape_configs": [scraped]}
        (self.folder / "prometheus.yaml").write_text(json.dumps(config))
        flags = {"config.file": "prometheus.yaml", "storage.tsdb.path": "data"}
        address = f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}"
        given = [f"--{flag}={self.folder / file}" for flag, file in flags.items()]
        self.run("prometheus", [program, *given, address, "--log.level=warn"])

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]

    def firing(self, name):
        """The alerts of this name; None if Prometheus does not answer yet."""
        with contextlib.suppress(OSError):
            return [one for one in self.ask("alerts")["alerts"] if one["labels"]["alertname"] == name]
        return None

    async def until(self, holds, meanwhile=lambda: None):
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await asyncio.to_thread(meanwhile)
                if found := await asyncio.to_thread(holds):
                    return found, time.monotonic() - began
                await asyncio.sleep(0.1)


def old_root(folder):
    """Write a root that expires in ten days."""
    (folder / ROOT_FOLDER).mkdir(parents=True)
    created = int(time.time()) - YEARS_OF_A_ROOT * 365 * DAY + 10 * DAY
    for name, value in RootSeed(bytes(32), created).encode().items():
        (folder / ROOT_FOLDER / name).write_bytes(value)


def call(path):
    with contextlib.suppress(ConfcomError, OSError):
        AesmClient(path, timeout=5).init_quote()


def hold_connections(path):
    """Connect without a request, more often than the helper has places."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        for _ in range(12):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
            client.send(b"\x01")
        client.settimeout(0.5)
        client.recv(1)


async def test_each_alert_fires_and_resolves(prometheus_program, short_dir, capsys):
    with contextlib.ExitStack() as stack:
        async with ApiServer().serving() as server:
            world = World(short_dir, stack)
            stack.callback(world.stop_all)
            kubelet = Kubelet(short_dir)
            try:
                times = await alerts(world, stack, server, kubelet, prometheus_program)
                for line in blocks("docs/how-to/alerts.md", "promql")[0].splitlines():
                    if not line.startswith("#"):
                        assert (await asyncio.to_thread(world.ask, "query", query=line))["result"], line
            finally:
                await kubelet.stop()
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert times.keys() == {rule["alert"] for rule in group["rules"]}
    with capsys.disabled():
        sys.stdout.write("\n")
        for name, (fired, resolved) in times.items():
            sys.stdout.write(f"  {name:28} fires after {fired:5.1f} s, resolves after {resolved:5.1f} s\n")


async def alerts(world, stack, server, kubelet, prometheus):
    folder, times = world.folder, {}
    old_root(folder / "old")
    stub = stack.enter_context(running_stub(folder))
    host = HostTree(folder / "host")
    host.load()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
    (folder / "kubeconfig").write_text(json.dumps(KUBECONFIG | {"clusters": [cluster]}))
    relay = ("--provider", "aesmd", "--aesmd-socket", stub.path, "--expected-root", folder / "root.pem")
    sockets = {name: folder / f"{name}.socket" for name in ("relay", "second")}
    server.answers = [http(500, b"")] * 10_000
    for kind, thing in [("nodes", written("64")), ("pods", plugin_pod(podIP="127.0.0.1")), ("pods", tenant(40))]:
        server.put(kind, thing)

    world.start("simulated", *world.simulated("simulated", "old"))
    world.start_second(state="old")
    world.start("relay", *relay, "--socket", sockets["relay"])
    plugin = ("--device-plugin-dir", folder, "--host-root", host.root, "--epc-resource", EPC)
    world.start("plugin", *plugin, "--accounting", "capacity", "--capacity-support", "supported")
    port = world.ports["plugin"]
    flags = ("--epc-resource", EPC, "--node-selector", "a=b", "--plugin-port", port)
    program = ("-c", WITH_LOOPBACK_PODS)
    world.start("controller", "--kubeconfig", folder / "kubeconfig", *flags, program=program)
    world.start_prometheus(prometheus)

    async def fires(name, meanwhile=lambda: None):
        found, seconds = await world.until(lambda: world.firing(name), meanwhile)
        times[name] = (seconds,)
        return found[0]

    async def resolves(name, meanwhile=lambda: None):
        _, seconds = await world.until(lambda: world.firing(name) == [], meanwhile)
        times[name] += (seconds,)

    expiring = await fires("ConfcomCertificateExpires")
    assert expiring["labels"]["node"] in expiring["annotations"]["summary"]
    world.start("simulated", *world.simulated("simulated"))
    world.start_second()
    await resolves("ConfcomCertificateExpires")

    blind = await fires("ConfcomControllerBlind")
    assert "codes.md#objects-not-listed" in blind["annotations"]["description"]
    server.answers.clear()
    await resolves("ConfcomControllerBlind")

    await fires("ConfcomEpcShortfall")
    server.delete("pods", "t")
    await resolves("ConfcomEpcShortfall")

    unregistered = await fires("ConfcomPluginNotRegistered")
    assert "codes.md#kubelet-absent" in unregistered["annotations"]["description"]
    await kubelet.start()
    await resolves("ConfcomPluginNotRegistered")

    host.unload()
    await fires("ConfcomDeviceUnhealthy")
    host.load()
    await resolves("ConfcomDeviceUnhealthy")

    stub.terminate()
    unready = await fires("ConfcomQuoteHelperNotReady")
    assert "codes.md#aesmd-unreachable" in unready["annotations"]["description"]
    assert unready["labels"]["node"] == "relay"
    stub.start()
    await resolves("ConfcomQuoteHelperNotReady")

    stub.codes = dict.fromkeys(QUOTING, AesmErrorCode.NO_PLATFORM_CERT_DATA)
    failing = await fires("ConfcomQuotesFailing", lambda: call(sockets["relay"]))
    assert failing["labels"]["result"] == "no_platform_cert_data"
    stub.codes = {}
    await resolves("ConfcomQuotesFailing", lambda: call(sockets["relay"]))

    for _ in range(3):
        stub.terminate()
        await world.until(lambda: not ready(world, "relay"))
        stub.start()
        await world.until(lambda: ready(world, "relay"))
    await fires("ConfcomQuoteProviderLost")
    await resolves("ConfcomQuoteProviderLost")

    world.start_second(state="other")
    await fires("ConfcomTwoRoots")
    world.start_second()
    await resolves("ConfcomTwoRoots")

    world.start_second(program=("-c", OTHER_VERSION))
    await fires("ConfcomVersionsDiffer")
    world.start_second()
    await resolves("ConfcomVersionsDiffer")

    world.stop("second")
    down = await fires("ConfcomDaemonDown")
    assert (down["labels"]["job"], down["labels"]["pod"]) == ("quote-helper", "pod-second")
    few = {"limits": {"max_connections": 4, "max_waiting": 2, "crowded_seconds": 0.1}}
    world.start_second(program=(ALTERED, json.dumps(few)))
    await resolves("ConfcomDaemonDown")
    await fires("ConfcomClientsShed", lambda: hold_connections(sockets["second"]))
    await resolves("ConfcomClientsShed")

    def quote():
        client = AesmClient(folder / "simulated.socket")
        report = SimulatedEnclave.from_name("a").create_report(client.init_quote().target_info, bytes(64))
        client.get_quote(report)

    counted = 'rate(confcom_quote_helper_request_seconds_count{request="GetQuoteEx"}[5m]) > 0'
    await world.until(lambda: world.ask("query", query=counted)["result"], quote)
    return times


def tenant(mib):
    return pod({EPC: str(mib)})


def ready(world, name):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{world.ports[name]}/readyz").status == 200
    return False


@pytest.mark.parametrize("daemon", ["quote-helper", "device-plugin"])
def test_promtool_has_nothing_to_remark(promtool, short_dir, daemon):
    """The controller's metrics are checked by their names in the other test; it needs an API server to start."""
    with contextlib.ExitStack() as stack:
        world = World(short_dir, stack)
        stack.callback(world.stop_all)
        name = "simulated" if daemon == "quote-helper" else "plugin"
        flags = world.simulated(name) if name == "simulated" else ("--device-plugin-dir", short_dir, "--simulated")
        world.start(name, *flags)
        page = page_of(world, name)
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert f'confcom_build_info{{version="{confcom.__version__}"}} 1.0' in page.decode()


def page_of(world, name):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{world.ports[name]}/metrics").read()
        time.sleep(0.05)
    raise TimeoutError(name)

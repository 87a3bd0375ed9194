"""A flood from one client does not harm a client with the same uid in another pod and another PID namespace.

The helper is real. As root, the test puts the clients into cgroups like a kubelet's, or else skips itself.
"""

import contextlib
import json
import secrets
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest

from e2e.cluster.cgroups import hierarchies

ROOT = Path(__file__).parents[3]
HIERARCHIES = ("cgroup2", "name=systemd", "pids", "freezer")
"""Cgroup hierarchies that a process can enter without prior settings, the most common hierarchy first."""
ENTER = 'echo $$ > "$1" && shift && exec unshare --pid --fork "$@"'
QUOTES, PAUSED = 60, 4
BUSY, IDLE = 48, 96
WAIT_SECONDS = 30

FLOOD = """
import asyncio, json, sys
from confcom.client import AesmClient
from confcom.aesm.session import encode_frame
from confcom.aesm.message_codec import encode_request
from confcom.aesm.messages import GetQuoteExRequest
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.simulation.enclave import SimulatedEnclave

path, busy, idle = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
target = AesmClient(path).init_quote().target_info
report = SimulatedEnclave.from_name("flood").create_report(target, bytes(64)).encode()
frame = encode_frame(encode_request(GetQuoteExRequest(report, 8192, ECDSA_P256_KEY_ID.encode())))
answers = 0

async def ask():
    global answers
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(frame)
            if len(await reader.read()) > 8192:
                answers += 1
                if answers == 100:
                    print("flooding", flush=True)
            writer.close()
        except OSError:
            pass

async def sit():
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
            await reader.read()
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(0.1)  # or it would do nothing but connect

async def main():
    tasks = [asyncio.create_task(ask()) for _ in range(busy)] + [asyncio.create_task(sit()) for _ in range(idle)]
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"answers": answers}))

asyncio.run(main())
"""

WELL_BEHAVED = """
import json, os, socket, sys, time
from testkit.replay import wire
from testkit.replay.clients import INTEL_QL_WRAPPER, ReplayedClient, encode

path, quotes, paused = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
failures = [ReplayedClient(INTEL_QL_WRAPPER, path).run().failure for _ in range(quotes)]
for _ in range(paused):
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(path)
        time.sleep(0.25)
        slow.sendall(wire.frame(encode({21: {}})))
        failures.append("" if slow.recv(64) else "closed without an answer")
print(json.dumps({"pid": os.getpid(), "failures": [failure for failure in failures if failure]}))
"""


def end(client):
    """End a client by closing its input; a killed client could leave its cgroup later than its parent."""
    with client:
        client.stdin.close()
        client.stdout.close()
        try:
            client.wait(WAIT_SECONDS)
        finally:
            client.kill()


@pytest.fixture
def make_pod():
    """Makes a container's cgroup in a new pod; returns the pod's UID and the file to enter the cgroup."""
    done = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no PID namespace can be made: {done.stderr.strip()}")
    mounted = hierarchies(Path("/proc/self/mountinfo").read_text())
    usual = [one for name in HIERARCHIES for one in mounted if name in (one.type, *one.options.split(","))]
    if not usual:
        pytest.skip("no cgroup hierarchy is mounted")
    root = usual[0].mountpoint / f"confcom-test-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:

        def mkdir(path):
            path.mkdir()
            stack.callback(path.rmdir)

        try:
            mkdir(root)
            mkdir(root / "kubepods")
        except OSError as error:
            pytest.skip(f"no cgroup can be made: {error}")

        def make():
            pod = str(uuid.uuid4())
            container = root / "kubepods" / f"pod{pod}" / secrets.token_hex(32)
            mkdir(container.parent)
            mkdir(container)
            return pod, container / "cgroup.procs"

        yield make


@pytest.fixture
def start_client():
    with contextlib.ExitStack() as stack:

        def start(procs, program, *arguments):
            command = [sys.executable, "-c", program, *map(str, arguments)]
            client = subprocess.Popen(
                ["sh", "-c", ENTER, "sh", str(procs), "--kill-child", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            stack.callback(end, client)
            return client

        yield start


def quotes_by_pod(helper):
    return Counter(line["pod"] for line in helper.events("quote") if line["result"] == "success")


def test_a_flood_from_one_pod_is_not_noticed_in_another(start_helper, make_pod, start_client):
    """Both clients have the same uid, and the flood alone wants more places than the helper has.

    The other client waits a quarter of a second between connection and request. If both clients counted as one
    peer, this connection would be among the oldest waiting connections, which the helper sheds.
    """
    few = ["sh", "-c", f'ulimit -n {64 + BUSY + IDLE // 2} && exec "$@"', "sh"]
    helper = start_helper("--identify-pods", "--log-quotes-per-peer", "all", wrapper=few).wait_ready()
    (flooding, flood_procs), (quiet, quiet_procs) = make_pod(), make_pod()
    flood = start_client(flood_procs, FLOOD, helper.socket, BUSY, IDLE)
    assert flood.stdout.readline() == "flooding\n"
    before = quotes_by_pod(helper)[flooding]

    result, _ = start_client(quiet_procs, WELL_BEHAVED, helper.socket, QUOTES, PAUSED).communicate(timeout=WAIT_SECONDS)
    seen = json.loads(result)
    during = quotes_by_pod(helper)[flooding] - before
    flood.stdin.close()
    answers = json.loads(flood.stdout.readline())["answers"]

    assert seen["pid"] == 1
    assert seen["failures"] == []
    assert answers > during > QUOTES
    assert helper.metric('confcom_quote_helper_connections_dropped_total{reason="shed"}') > 0
    assert helper.metric("confcom_log_records_dropped_total") == 0
    helper.wait_until(lambda: quotes_by_pod(helper)[quiet] == QUOTES)
    assert set(quotes_by_pod(helper)) == {flooding, quiet}

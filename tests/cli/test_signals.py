"""Signals to the command as a process, with programs that stand for kubectl and helm and ask a cluster in memory."""

import json
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from confcom.addon.cluster.processes import Watch
from confcom.errors import ExitCode
from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import FakeCluster

PROGRAM = f"""#!{sys.executable}
import json, os, socket, sys
from pathlib import Path

def tell(**what):
    there = socket.socket(socket.AF_UNIX)
    there.connect(os.environ["CLUSTER"])
    there.sendall(json.dumps(what).encode() + b"\\n")
    return there

given = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
called = [Path(sys.argv[0]).name, *sys.argv[1:]]
there = tell(argv=called, stdin=given, pid=os.getpid(), sid=os.getsid(0))
answer = there.makefile()
while True:
    try:
        code, out, err = json.loads(answer.readline())
        break
    except KeyboardInterrupt:  # as helm: it records that it failed, and ends
        tell(stop=os.getpid())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@contextmanager
def served(cluster, path):
    """Answers the programs; `begun` is set when helm has rendered the chart, and changes the release."""
    seen, begun, stops = [], threading.Event(), {}
    play = cluster.hook.play

    def played(hooks):
        begun.set()
        return play(hooks)

    cluster.hook.play = played

    def answer(asked):
        seen.append(asked)
        stop = stops[asked["pid"]] = threading.Event()

        def wait():
            if stop.wait(0.05):
                raise KeyboardInterrupt

        given = asked["stdin"].encode() if asked["stdin"] else None
        watch = Watch(wait, stoppable=True) if asked["argv"][0] == "helm" else None
        try:
            done = cluster.run(asked["argv"], stdin=given, watch=watch)
        except KeyboardInterrupt:
            return [1, "", "Error: context canceled"]
        return [done.returncode, done.stdout.decode(), done.stderr.decode()]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            asked = json.loads(self.rfile.readline())
            if "stop" in asked:
                stops[asked["stop"]].set()
            else:
                self.wfile.write(json.dumps(answer(asked)).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads, request_queue_size = True, 64

    with Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield seen, begun
        server.shutdown()


@pytest.fixture
def command(tmp_path):
    """Starts `confcom` in a session of its own, as a terminal does, on a cluster of one node."""
    folder = Path(tempfile.mkdtemp(prefix="csg-", dir="/tmp"))  # short, since sockets' paths are
    cluster = FakeCluster(objects=[make.node("a", make.SIMULATED)])
    for name in ("kubectl", "helm"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CLUSTER": str(folder / "s")}
    started = []
    with served(cluster, folder / "s") as (seen, begun):

        def start(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-m", "confcom", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            started.append(process)
            return process

        yield start, cluster, seen, begun
        for process in started:
            if process.poll() is None:
                process.kill()
            process.communicate()
    shutil.rmtree(folder)


def by_terminal(process):
    os.killpg(process.pid, signal.SIGINT)


def by_name(process):
    process.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("send", [by_terminal, by_name])
def test_the_last_lines_say_what_helm_has_recorded(command, send):
    start, cluster, seen, begun = command
    process = start("enable", "--simulated", "--set", "image.registry=registry.test", "--output", "json")
    assert begun.wait(30)
    send(process)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, err
    assert [one["status"] for one in cluster.revisions] == ["failed"]
    error = json.loads(out)["error"]
    assert (error["code"], error["exit_code"]) == ("interrupted-during-helm", ExitCode.INTERRUPTED)
    assert err.splitlines()[-3:] == [f"Error: {error['what']}", f"  why: {error['why']}", f"  do:  {error['do']}"]
    assert re.search(r"\b1\b", error["why"])
    assert commands_in(error["do"]) == ["confcom enable", "confcom disable"]
    (helm,) = [one for one in seen if one["argv"][:2] == ["helm", "upgrade"] and "--dry-run=server" not in one["argv"]]
    assert helm["sid"] != process.pid
    assert {one["sid"] for one in seen if one["argv"][0] == "kubectl"} == {process.pid}


@pytest.mark.slow
def test_helm_goes_on_when_the_command_is_killed(command):
    start, cluster, _, begun = command
    process = start("enable", "--simulated", "--set", "image.registry=registry.test")
    assert begun.wait(30)
    process.kill()
    process.communicate(timeout=30)
    cluster.hook.look()
    ended = threading.Event()
    close = cluster.hook.close

    def closed():
        close()
        ended.set()

    cluster.hook.close = closed
    while not ended.wait(0.05):
        cluster.sleep(1.5)
    assert [one["status"] for one in cluster.revisions] == ["deployed"]

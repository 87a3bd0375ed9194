import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from confcom.addon.api import ClusterAccessError
from confcom.addon.login import open_cluster
from confcom.kubernetes.kubectl_flags import Login
from testkit.conditions import wait_until

KUBECTL = f"""#!{sys.executable} -IS
import json, os, pathlib, socket, sys, time
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "config":
    if not (folder / "config").exists():
        sys.exit("error: current-context must exist in order to minify")
    print((folder / "config").read_text())
    sys.exit()
if (folder / "failure").exists():
    sys.exit((folder / "failure").read_text())
[path] = [word.partition("=")[2] for word in sys.argv if word.startswith("--unix-socket=")]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
(folder / "proxy").write_text(json.dumps([os.getpid(), path]))
status = (folder / "status").read_text() if (folder / "status").exists() else "200 OK"
while True:
    client, _ = server.accept()
    if not client.recv(65536):
        continue
    if (folder / "login").exists() and not os.fork():  # a login's own program, which outlives kubectl
        time.sleep(2)
        os.write(2, b"bye")
        os._exit(0)
    if (folder / "stderr").exists():
        os.write(2, (folder / "stderr").read_bytes())
        (folder / "stderr").unlink()
    body = json.dumps({{"gitVersion": "v1.36.3"}})
    lines = [f"HTTP/1.1 {{status}}", "Connection: close", f"Content-Length: {{len(body)}}", "", body]
    client.sendall("\\r\\n".join(lines).encode())
    client.close()
"""
"""Stand-in for kubectl that serves a unix socket and answers `config view`; files beside it control it."""
CONFIG = {
    "current-context": "work",
    "clusters": [{"name": "c", "cluster": {"server": "https://api.example.com:6443"}}],
}


class FakeKubectl:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.write("kubectl", KUBECTL)
        (folder / "kubectl").chmod(0o755)
        self.write("config", json.dumps(CONFIG))

    def write(self, name, text):
        (self.folder / name).write_text(text)

    @property
    def calls(self):
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    @property
    def proxy(self):
        process, path = json.loads((self.folder / "proxy").read_text())
        return process, Path(path)

    @property
    def runs(self):
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.proxy[0]}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return FakeKubectl(tmp_path / "bin")


def test_the_cluster_is_that_of_the_login(kubectl):
    login = Login(context="work", kubeconfig="/k", user="eve", groups=("a", "b"))
    flags = ["--context=work", "--kubeconfig=/k", "--as=eve", "--as-group=a", "--as-group=b"]
    with open_cluster(login, "ns") as cluster:
        view, proxy = kubectl.calls
        assert view == ["config", "view", "--minify", "--output=json", *flags]
        assert proxy == ["proxy", f"--unix-socket={kubectl.proxy[1]}", *flags]
        assert (cluster.login, cluster.described) == (login, "work (https://api.example.com:6443)")
        assert cluster.to_json() == {"context": "work", "server": "https://api.example.com:6443", "namespace": "ns"}
        assert cluster.api.server_version() == "v1.36.3"


def test_kubectl_runs_in_a_session_of_its_own_so_that_ctrl_c_of_a_terminal_does_not_reach_it(kubectl):
    with open_cluster(Login(), "ns"):
        process = kubectl.proxy[0]
        assert os.getsid(process) == process


def test_the_current_context_is_named_to_all_programs(kubectl):
    with open_cluster(Login(), "ns") as cluster:
        assert kubectl.calls[1][2:] == ["--context=work"]
        assert cluster.login.helm_flags() == ["--kube-context=work"]


def test_a_pod_uses_its_own_account(kubectl, monkeypatch):
    (kubectl.folder / "config").unlink()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with open_cluster(Login(), "ns") as cluster:
        assert kubectl.calls[1][2:] == []
        assert cluster.described == "in-cluster (https://10.0.0.1:443)"


NO_CLUSTER = {
    "no kubectl": ({"kubectl": None}, Login(), "program-not-found", "No such file"),
    "no context": ({"config": None}, Login(), "no-context", "current-context must exist"),
    "in a Pod": ({"config": None, "in Pod": ""}, Login(context="x"), "no-context", "current-context"),
    "no proxy": ({"failure": "error: exec plugin"}, Login(), "no-context", "exec plugin"),
    "no login": ({"status": "401 Unauthorized"}, Login(), "cluster-request-failed", "HTTP status 401"),
}


@pytest.mark.parametrize("row", NO_CLUSTER.values(), ids=NO_CLUSTER)
def test_why_there_is_no_cluster(kubectl, monkeypatch, row):
    files, login, code, why = row
    for file, content in files.items():
        (kubectl.folder / file).unlink() if content is None else kubectl.write(file, content)
    if "in Pod" in files:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ClusterAccessError, match=why) as caught, open_cluster(login, "ns"):
        pass
    assert caught.value.error_code == code


@pytest.mark.parametrize("error", [None, KeyError])
def test_the_proxy_and_its_private_folder_go_with_the_context(kubectl, error):
    with contextlib.suppress(KeyError), open_cluster(Login(), "ns"):
        _, path = kubectl.proxy
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert kubectl.runs
        if error:
            raise error
    assert not kubectl.runs
    assert not path.parent.exists()


def test_a_prompt_reaches_the_person_and_log_lines_do_not(kubectl, capfd):
    log = "E1129 09:00:00.000000       1 proxy_server.go:147] Error while proxying request" + 5000 * "."
    kubectl.write("stderr", f"Visit https://login.example.com\n{log}\n{log}\nPassword: ")
    words = ""
    with open_cluster(Login(), "ns"):
        deadline = time.monotonic() + 10
        while not words.endswith("Password: ") and time.monotonic() < deadline:
            words += capfd.readouterr().err
    assert words == "Visit https://login.example.com\nPassword: "


def test_a_logins_program_that_outlives_kubectl_ends_no_command(kubectl):
    kubectl.write("login", "")
    before = set(threading.enumerate())
    with open_cluster(Login(), "ns"):
        (relay,) = set(threading.enumerate()) - before
    relay.join(10)
    assert not relay.is_alive()


CHILD = """
import sys
from confcom.addon.login import open_cluster
from confcom.errors import ConfcomError
from confcom.kubernetes.kubectl_flags import Login
with open_cluster(Login(), "ns") as cluster:
    try:
        print("open", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        try:
            print(cluster.api.server_version(), flush=True)
        except ConfcomError as error:
            print(error, flush=True)
"""


@pytest.fixture
def child(kubectl):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_process_takes_the_proxy_along(kubectl, child):
    assert kubectl.runs
    child.kill()
    child.wait()
    wait_until(lambda: not kubectl.runs)
    shutil.rmtree(kubectl.proxy[1].parent)  # other users cannot remove this folder


def test_the_proxy_survives_ctrl_c(kubectl, child):
    os.killpg(child.pid, signal.SIGINT)
    assert child.stdout.readline() == "v1.36.3\n"
    assert child.wait() == 0
    assert not kubectl.runs


# In a process of its own, since httpcore leaves the socket of a refused connection open until it is collected.
def test_a_proxy_that_ends_is_an_api_server_that_does_not_answer(kubectl, child):
    os.kill(kubectl.proxy[0], signal.SIGKILL)
    wait_until(lambda: not kubectl.runs)
    os.killpg(child.pid, signal.SIGINT)
    assert "does not answer" in child.stdout.read()
    assert child.wait() == 0

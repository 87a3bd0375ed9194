"""A program is run to its end, and is killed when it prints or lasts too long; memory stays bounded."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from confcom.addon.cluster.helm import MAX_HELM_BYTES, Helm, Values
from confcom.addon.cluster.kubectl import MAX_LOG_BYTES, Cluster, KubeApi
from confcom.addon.cluster.processes import OutputLimitError, run_bounded
from confcom.addon.cluster.programs import MAX_STDERR_BYTES, MAX_STDOUT_BYTES, ClusterAccessError, call, run_program

MIB = 1 << 20
ENDLESS = """#!{python}
import os
open("pid", "w").write(str(os.getpid()))
while True:
    os.write({descriptor}, b"x" * 65536)
"""


@pytest.fixture
def endless(tmp_path, monkeypatch):
    """Puts a kubectl and a helm on PATH that write for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(descriptor):
        for name in ("kubectl", "helm"):
            (tmp_path / name).write_text(ENDLESS.format(python=sys.executable, descriptor=descriptor))
            (tmp_path / name).chmod(0o755)

    return install


def is_there(folder):
    """Whether the program that wrote its pid there has not ended; a zombie is there too."""
    return Path(f"/proc/{(folder / 'pid').read_text()}").exists()


def run_python(program, **options):
    settings = {"stdin": None, "timeout": 30.0, "environment": os.environ, "most_stdout": MIB, "most_stderr": MIB}
    return run_bounded([sys.executable, "-c", program], **{**settings, **options})


@pytest.mark.parametrize(("descriptor", "stream"), [(1, "stdout"), (2, "stderr")])
def test_a_program_that_writes_for_ever_is_killed_at_the_bound(endless, tmp_path, descriptor, stream):
    endless(descriptor)
    tracemalloc.start()
    try:
        with pytest.raises(ClusterAccessError) as caught:
            call(run_program, ["kubectl", "get", "nodes"], "nodes cannot be listed", most=4 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    bound = {"stdout": 4 * MIB, "stderr": MAX_STDERR_BYTES}[stream]
    assert peak < 2 * bound + 4 * MIB
    assert not is_there(tmp_path)
    assert caught.value.error_code == "output-too-large"
    assert "nodes" in caught.value.what
    assert f"{bound // MIB} MiB on {stream}" in caught.value.why
    assert "kubectl get nodes" in caught.value.remedy


def test_each_kind_of_answer_has_its_bound():
    asked = []

    def run(arguments, /, *, most, **_):
        asked.append(most)
        raise OutputLimitError("stdout", most, killed=True)

    api, helm = KubeApi(Cluster(), run), Helm(Cluster(), run)
    for ask, bound in (
        (lambda: api.list_objects("nodes"), MAX_STDOUT_BYTES),
        (lambda: api.pod_metrics("a", 1), MAX_LOG_BYTES),
        (helm.history, MAX_HELM_BYTES),
    ):
        with pytest.raises(ClusterAccessError):
            ask()
        assert asked.pop() == bound
    assert api.log_tail("a", 1) == ""
    assert asked == [MAX_LOG_BYTES]


@pytest.mark.parametrize(("killed", "code"), [(True, "output-too-large"), (False, "output-lost")])
def test_whether_a_program_was_ended_for_what_it_printed_is_told(killed, code):
    def run(*_, most, **__):
        raise OutputLimitError("stderr", most, killed=killed)

    with pytest.raises(ClusterAccessError) as caught:
        Helm(Cluster(), run).uninstall()
    assert caught.value.error_code == code


def test_a_value_is_not_repeated_in_the_command_by_hand(tmp_path):
    def run(arguments, /, *, timeout, **_):
        raise subprocess.TimeoutExpired(arguments, timeout)

    values = Values(settings=("a.key=s3cret",), texts=("b=s3cret\ns3cret=1",))
    with pytest.raises(ClusterAccessError) as caught:
        Helm(Cluster(), run).upgrade(tmp_path, values)
    assert caught.value.error_code == "program-timeout"
    assert "--set=a.key=... --set-string=b=..." in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_input_and_outputs_may_be_larger_than_a_pipe():
    program = "import sys; data = sys.stdin.buffer.read(); sys.stderr.buffer.write(data); sys.stdout.buffer.write(data)"
    data = os.urandom(MIB)
    done = run_python(program, stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, data)


def test_a_program_that_does_not_read_ends_as_it_ends():
    done = run_python("import sys; sys.stdin.close(); print('ended'); sys.exit(3)", stdin=bytes(4 * MIB))
    assert (done.returncode, done.stdout) == (3, b"ended\n")


TELL_PID = "import os, signal, time; open('pid', 'w').write(str(os.getpid())); "


@pytest.mark.parametrize("end", ["", "os.close(1); os.close(2); "])
def test_a_program_that_lasts_too_long_is_killed(tmp_path, monkeypatch, end):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_python(f"{TELL_PID}os.write(2, b'log in'); {end}time.sleep(60)", timeout=1.0)
    assert not is_there(tmp_path)
    assert caught.value.stderr == b"log in"


def test_an_interrupted_one_is_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_python(f"{TELL_PID}os.kill(os.getppid(), signal.SIGINT); time.sleep(60)")
    assert not is_there(tmp_path)

"""`confcom run` as a real process, with a real quote helper and real mounts."""

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.namespaces.modes import Mode
from testkit.conditions import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

QUOTE = (sys.executable, "-P", "-m", "confcom", "quote", "--report-data", "c0ffee", "--out", "q.bin")


def line(process):
    """The first line of the program, which says that it runs."""
    return process.stdout.readline() or pytest.fail(process.communicate()[1])


@pytest.mark.parametrize("way", [*Mode], ids=str)
def test_a_quote_is_counted_and_verifies(runner, way):
    if way is Mode.ROOT and os.geteuid() != 0:
        pytest.skip("mode root left out on this machine: the tests do not run as root")
    code, _, err = runner.run("--mode", way, "--report", "report.json", "--", *QUOTE)
    if way is Mode.USER_NAMESPACE and code == 125:
        pytest.skip(f"mode user-namespace left out on this machine: {err}")
    assert code == 0, err
    report = runner.report()
    assert (report["schema"], report["mode"], report["exit_code"], report["quotes"]) == (1, way, 0, 1)
    assert report["platform"] == "simulated"
    assert report["verify"] in err
    words = report["verify"].replace("QUOTE", "q.bin").split()
    verified = subprocess.run(
        [sys.executable, "-P", "-m", *words], cwd=runner.home, env=runner.environ, check=False, capture_output=True
    )
    assert verified.returncode == 3, verified
    assert runner.traces() == []


SEES = """
read line; echo "$line"; echo "$(id -u):$(id -g)"; echo "$SGX_AESM_ADDR|${CONFCOM_AESM_SOCKET-none}"
test -S /var/run/aesmd/aesm.socket && test -S "$CONFCOM_AESM_DIR/aesm.socket" &&
test -f "$CONFCOM_TRUST/root.pem" && echo aesm
: > /dev/sgx_enclave && : > /dev/null && echo device
echo "$(ls /run | grep -v '^aesmd$' | tr '\\n' ' ')"; echo "$(ls /dev | grep -v '^sgx_enclave$' | tr '\\n' ' ')"
"""


def names(folder, *hidden):
    command = f"ls {folder} | grep -v '{'|'.join(hidden)}' | tr '\\n' ' '"
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()


def test_what_the_program_sees(runner, mode):
    before = (Path("/proc/self/mountinfo").read_text(), Path("/run/aesmd").exists(), Path("/dev/sgx_enclave").exists())
    stdin, feed = os.pipe()
    os.write(feed, b"of the person\n")
    os.close(feed)
    environ = {"CONFCOM_AESM_SOCKET": "/other"}
    code, out, err = runner.run("--", "sh", "-c", SEES, stdin=stdin, environ=environ)
    os.close(stdin)
    uid, gid = (65534, 65534) if os.geteuid() == 0 and mode is not Mode.ROOT else (os.geteuid(), os.getegid())
    assert code == 0, err
    assert [one.strip() for one in out.splitlines()] == [
        "of the person", f"{uid}:{gid}", "1|none", "aesm", "device",
        names("/run", "^aesmd$"), names("/dev", "^sgx_enclave$"),
    ]  # fmt: skip
    assert before == (
        Path("/proc/self/mountinfo").read_text(), Path("/run/aesmd").exists(), Path("/dev/sgx_enclave").exists()
    )  # fmt: skip
    assert runner.traces() == []


HOME_OF_NOBODY = """
import pwd
found = pwd.getpwuid
pwd.getpwuid = lambda uid: pwd.struct_passwd((*found(uid)[:5], {home!r}, "/bin/sh"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo's part needs root")
def test_after_sudo_the_program_is_the_callers(runner):
    runner.as_user().prefix = ()
    (runner.folder / "sitecustomize.py").write_text(HOME_OF_NOBODY.format(home=str(runner.home)))
    search = os.pathsep.join([str(runner.folder), runner.environ.get("PYTHONPATH", "")])
    sudo = {"SUDO_UID": "65534", "SUDO_GID": "65534", "PYTHONPATH": search}
    trust = runner.home / "trust"
    script = 'echo "$(id -u):$(id -g) $(id -G) $(sed -n "s/^CapEff:\\t*//p" /proc/self/status)"'
    code, out, err = runner.run("--trust", trust, "--", "sh", "-c", script, environ=sudo)
    assert (code, out) == (0, "65534:65534 65534 0000000000000000\n"), err
    assert (trust / "root.pem").stat().st_uid == 65534
    assert runner.traces() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo's part needs root")
def test_after_sudo_the_caller_cannot_change_what_root_runs(runner):
    runner.as_user().prefix = ()
    (runner.folder / "sitecustomize.py").write_text(HOME_OF_NOBODY.format(home=str(runner.home)))
    search = os.pathsep.join([str(runner.folder), runner.environ.get("PYTHONPATH", "")])
    sudo = {"SUDO_UID": "65534", "SUDO_GID": "65534", "PYTHONPATH": search}
    runner.private.chmod(0o755)
    names = ". aesmd start.sh setup.log helper.log root"
    script = f'cd "$CONFCOM_AESM_DIR/.."; for name in {names}; do test -e $name && test ! -w $name || echo $name; done'
    code, out, err = runner.run("--", "sh", "-c", script, environ=sudo)
    assert (code, out) == (0, "aesmd\n"), err


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("/no/such/program",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_the_exit_code_is_the_programs(runner, mode, program, expected):
    del mode
    assert runner.run("--", *program)[0] == expected
    assert runner.traces() == []


def test_a_parent_may_ignore_the_ends_of_its_children(runner):
    ignoring = ("env", "--ignore-signal=CHLD")
    assert runner.run("--mode", "no-namespace", "--", "sh", "-c", "exit 7", prefix=ignoring)[0] == 7
    assert runner.traces() == []


def test_what_is_refused_before_the_program_starts(runner):
    other = runner.home / "other"
    other.mkdir()
    (other / "root.pem").write_text("another root")
    exposed = runner.home / "exposed" / "confcom" / "simulation"
    program = ("--", "sh", "-c", "touch started")
    assert runner.run("--mode", "no-namespace", *program, environ={"XDG_STATE_HOME": str(exposed.parents[1])})[0] == 0
    (runner.home / "started").unlink()
    exposed.chmod(0o777)
    long = runner.private / ("x" * 90)
    long.mkdir()
    for words, environ, what in (
        ((), {}, "PROGRAM"),
        (("--mode", "wrong", *program), {}, "wrong"),
        (("--mode", "no-namespace", "--trust", "other", *program), {}, "another platform"),
        (("--mode", "no-namespace", *program), {"XDG_STATE_HOME": str(exposed.parents[1])}, "0777"),
        (("--mode", "no-namespace", "--report", "/no/such/folder/r", *program), {}, "/no/such/folder"),
        (("--mode", "no-namespace", *program), {"XDG_RUNTIME_DIR": str(long), "TMPDIR": str(long)}, "bytes long"),
    ):
        code, _, err = runner.run(*words, environ=environ)
        assert (code, what in err) == (125, True), err
        assert not (runner.home / "started").exists()
    long.rmdir()
    assert runner.traces() == []


CHROOT = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
LIMIT = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'


@pytest.mark.parametrize("way", ["limit", "chroot", "mount"])
def test_namespaces_that_are_refused_are_never_replaced(runner, way):
    user = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    if subprocess.run([*user, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this machine refuses user namespaces, so no refusal can be arranged")
    (runner.folder / "root").mkdir()
    (runner.folder / "mount").write_text("#!/bin/sh\necho 'mount: permission denied.' >&2; exit 32\n")
    (runner.folder / "mount").chmod(0o755)
    prefix, environ, cause = {
        "limit": ((*user, LIMIT, "sh"), {}, "max_user_namespaces"),
        "chroot": ((*user, CHROOT, str(runner.folder / "root")), {}, "Operation not permitted"),
        "mount": ((), {"PATH": f"{runner.folder}:{os.environ['PATH']}"}, "permission denied"),
    }[way]
    code, _, err = runner.run("--mode", "user-namespace", "--", "touch", "started", prefix=prefix, environ=environ)
    assert code == 125, err
    for part in (cause, "sudo confcom run", "--mode no-namespace", "-v $CONFCOM_AESM_DIR:"):
        assert part in err
    assert list(runner.home.glob("started")) == []
    assert runner.traces() == []


def children(pid):
    return {
        int(one): Path(f"/proc/{one}/cmdline").read_bytes()
        for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    }


@pytest.mark.parametrize("killed", ["confcom", "program", "helper"])
def test_killed_outright_it_leaves_nothing(runner, mode, killed):
    process = runner.start("--", "sh", "-c", "echo $$; read forever", stdin=subprocess.PIPE)
    program = int(line(process))
    (helper,) = [pid for pid, command in children(process.pid).items() if b"quote_helper" in command]
    os.kill({"confcom": process.pid, "program": program, "helper": helper}[killed], signal.SIGKILL)
    if killed == "helper":
        wait_until(lambda: "no more quotes" in process.stderr.readline())
        process.stdin.write("done\n")
        process.stdin.flush()
    assert process.wait() == {"confcom": -9, "program": 137, "helper": 0}[killed]
    wait_until(lambda: runner.traces() == [])
    wait_until(lambda: not Path(f"/proc/{program}").exists() or "Z" in Path(f"/proc/{program}/stat").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_is_passed_on(runner, number):
    script = "trap 'echo got; exit 5' TERM HUP QUIT INT; echo up; while :; do read x; done"
    # A shell's background jobs ignore SIGINT and SIGQUIT; confcom then ignores them too, as the program does.
    heard, program = ("env", "--default-signal"), ("--mode", "no-namespace", "--", "sh", "-c", script)
    process = runner.start(*program, prefix=heard, stdin=subprocess.PIPE)
    line(process)
    process.send_signal(number)
    # dash handles a signal when the builtin has ended
    process.stdin.close()
    assert process.wait() == 5
    assert runner.traces() == []


class Terminal:
    """bash with job control, on a terminal of its own."""

    def __init__(self, runner):
        pid, self.end = pty.fork()
        if not pid:
            os.chdir(runner.home)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], runner.environ | {"PS1": "", "TERM": "dumb"})
        self.pid, self.seen = pid, ""

    def type(self, text):
        os.write(self.end, text.encode())

    def until(self, word):
        while word not in self.seen:
            ready, _, _ = select.select([self.end], [], [], 30)
            assert ready, self.seen
            self.seen += os.read(self.end, 4096).decode(errors="replace")
        self.seen = self.seen.partition(word)[2]

    def close(self):
        os.close(self.end)  # a hang-up, which ends bash and its jobs
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_the_terminals_keys_work_as_without_us(runner):
    terminal = Terminal(runner)
    run = f"{sys.executable} -P -m confcom run --mode no-namespace --"
    try:
        (runner.home / "waits").write_text(
            "trap 'echo interrupted; exit 9' INT; trap 'echo continued' CONT; echo up; while :; do sleep 0.1; done"
        )
        # bash, since dash starts programs by vfork(2), and cannot be stopped at that moment
        terminal.type(f"{run} bash waits\n")
        terminal.until("up\r\n")
        terminal.type("\x1a")
        terminal.until("Stopped")
        terminal.type("fg; echo co''de $?\n")
        terminal.until("continued")
        terminal.type("\x03")
        terminal.until("interrupted\r\n")
        terminal.until("code 9")
        terminal.type(f"{run} bash --norc --noprofile -i\n echo in''ner $((6*7))\n")
        terminal.until("inner 42")
        terminal.type("sleep 0.1 & wait; fg; exit 4\n")
        terminal.until("no such job")
        terminal.type("\necho co''de $?\n")
        terminal.until("code 4")
    finally:
        terminal.close()
    wait_until(lambda: runner.traces() == [])

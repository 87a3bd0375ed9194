import os
import signal
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from confcom.namespaces import modes
from confcom.namespaces.modes import Mode
from confcom.run import plan
from confcom.run.plan import Commands, Person, RunError
from testkit.expected_errors import raises

USER, ROOT, SUDO = Person(1000, 100, by_root=False), Person(0, 0, by_root=True), Person(1000, 100, by_root=True)
TOOLS = {name: f"/bin/{name}" for name in modes.TOOLS}


@pytest.mark.parametrize(
    ("uid", "environ", "person"),
    [
        (1000, {}, USER),
        (1000, {"SUDO_UID": "7", "SUDO_GID": "7"}, USER),
        (0, {}, ROOT),
        (0, {"SUDO_UID": "1000", "SUDO_GID": "100"}, SUDO),
    ],
)
def test_who_runs_the_program(uid, environ, person):
    assert plan.find_person(uid, 100, environ) == person


def test_a_user_of_sudo_that_is_no_number_is_refused():
    with raises("sudo-user-unknown", RunError):
        plan.find_person(0, 0, {"SUDO_UID": "x"})


@pytest.mark.parametrize(
    ("wanted", "person", "mode"),
    [
        ("auto", USER, Mode.USER_NAMESPACE),
        ("auto", ROOT, Mode.ROOT),
        ("auto", SUDO, Mode.ROOT),
        ("no-namespace", USER, Mode.NO_NAMESPACE),
        ("user-namespace", ROOT, Mode.USER_NAMESPACE),
    ],
)
def test_the_mode(wanted, person, mode):
    assert plan.choose_mode(wanted, person) is mode


def test_only_root_has_the_mode_root():
    with raises("mode-refused", RunError):
        plan.choose_mode("root", USER)


@pytest.mark.parametrize(
    ("mode", "name", "value", "named"),
    [
        (Mode.USER_NAMESPACE, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", True),
        (Mode.USER_NAMESPACE, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0\n", False),
        (Mode.USER_NAMESPACE, "/proc/sys/user/max_user_namespaces", "0\n", True),
        (Mode.ROOT, "/proc/sys/user/max_user_namespaces", "0\n", False),
    ],
)
def test_a_refusal_names_the_kernels_setting(mode, name, value, named):
    error = plan.refused(mode, "unshare: no\n", [(name, value)])
    assert (error.exit_code, error.error_code) == (ExitCode.RUN_FAILED, "mode-refused")
    assert "unshare: no" in error.why
    assert (Path(name).name in error.why) is named


@pytest.mark.parametrize(
    ("mode", "person", "enter", "leave"),
    [
        (Mode.NO_NAMESPACE, USER, "", ""),
        (Mode.USER_NAMESPACE, USER, "--user --map-root-user --mount", "--user --map-user=1000 --map-group=100"),
        (Mode.ROOT, ROOT, "--mount", ""),
        (Mode.ROOT, SUDO, "--mount", "--reuid 1000 --regid 100 --init-groups"),
        (Mode.NO_NAMESPACE, SUDO, "", "--reuid 1000 --regid 100 --init-groups"),
    ],
)
def test_how_a_mode_is_entered_and_left(mode, person, enter, leave):
    commands = Commands(mode, person, TOOLS)
    assert [" ".join(words[1:-1]) for words in (commands.enter, commands.leave)] == [enter, leave]


def test_the_environment():
    given = {"A": "1", "CONFCOM_AESM_SOCKET": "/x", "SGX_AESM_ADDR": "0"}
    mounted, plain = (plan.variables(given, mode, Path("/d"), Path("/t")) for mode in (Mode.ROOT, Mode.NO_NAMESPACE))
    assert mounted == {"A": "1", "SGX_AESM_ADDR": "1", "CONFCOM_AESM_DIR": "/d", "CONFCOM_TRUST": "/t"}
    extra = {"CONFCOM_AESM_SOCKET": "/d/aesm.socket", "CONFCOM_SGX_ENCLAVE_DEVICE": os.devnull}
    assert plain == mounted | extra


def test_every_driver_of_sgx_is_hidden_and_nothing_else():
    sgx = {"sgx", "sgx_enclave", "sgx_provision", "sgx_vepc", "isgx"}
    assert plan.sgx_devices({*sgx, "null", "sg0", "sgx-like", "tty"}) == sgx


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7 << 8, 7), (signal.SIGKILL, 137), (signal.SIGTERM, 143)])
def test_exit_codes(status, code):
    assert plan.exit_code(status) == code

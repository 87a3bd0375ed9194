"""One helper process after another at the same path: no request lost, no socket harmed, stale target info cured."""

import contextlib
import json
import os
import signal
import socket
import stat
import threading

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteSizeExRequest,
    GetSupportedAttKeyIdNumRequest,
    InitQuoteExRequest,
)
from confcom.errors import ExitCode
from confcom.quote_provider.state_directory import open_platform, utc_now
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.quote import Quote
from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from confcom.verify.policy import Policy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verifier import verify_quote

KEY_ID = ECDSA_P256_KEY_ID.encode()
INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=KEY_ID, buf_size=32)
GRAMINE_BUFFER = 8192
GRAMINE_RETRIES = 5
QE_2 = ("--simulated-qe-mrenclave", "22" * 32, "--simulated-qe-isvsvn", "2")
INVALID = 'confcom_quote_helper_requests_total{request="GetQuoteEx",result="invalid_report"}'
STALE = 'confcom_quote_helper_requests_total{request="GetQuoteEx",result="att_key_not_initialized"}'
QUOTES = 'confcom_quote_helper_requests_total{request="GetQuoteEx",result="success"}'


class RefusedError(Exception):
    """An answer with a code."""


def ask(path, request):
    """One request, once: whatever goes wrong is an exception."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(encode_frame(encode_request(request)))
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    response = decode_response(answer[4:], request.kind)
    if response.error_code != AesmErrorCode.SUCCESS:
        raise RefusedError(AesmErrorCode(response.error_code).name)
    return response


class GramineLike:
    """One Init at its start, then quotes; 42 makes it ask again and retry, every other code is final."""

    def __init__(self, path, name="gramine"):
        self.path = path
        self.enclave = SimulatedEnclave.from_name(name)
        self.inits = 0
        self.init()

    def init(self):
        self.target = TargetInfo.parse(ask(self.path, INIT).target_info)
        self.inits += 1

    def quote(self, data=bytes(64)):
        for _ in range(GRAMINE_RETRIES):
            report = self.enclave.create_report(self.target, data)
            try:
                answer = ask(self.path, GetQuoteExRequest(report.encode(), GRAMINE_BUFFER, att_key_id=KEY_ID))
            except RefusedError as refused:
                if str(refused) != AesmErrorCode.ATT_KEY_NOT_INITIALIZED.name:
                    raise
                self.init()
            else:
                quote = answer.quote[: Quote.parse(answer.quote).size]
                assert Quote.parse(quote).body == report.body
                return quote
        raise RefusedError("42 again and again")


class Load:
    """Clients without a retry, one after the other in each thread, until it is stopped; every failure is kept."""

    def __init__(self, path, threads=4):
        self.path = path
        self.failures = []
        self.done = 0
        self.re_inits = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        data = bytes(64)
        try:
            gramine = GramineLike(self.path, f"load {number}")
            while not self._stop.is_set():
                ask(self.path, GetSupportedAttKeyIdNumRequest())
                ask(self.path, INIT)
                ask(self.path, GetQuoteSizeExRequest(att_key_id=KEY_ID))
                data = os.urandom(64)
                gramine.quote(data)
                self.done += 1
            self.re_inits += gramine.inits - 1
        except Exception as error:  # noqa: BLE001 # whatever it is, it is what must not be
            self.failures.append(repr(error))


def log_of(helper):
    return [json.loads(line) for line in helper.log.read_text().splitlines()]


def is_served_by(helper):
    return helper.get("/readyz")[0] == 200


def test_three_overlapping_updates_under_load_lose_nothing(start_helper, wait_until):
    """The third to another quoting enclave; connect errors and every code but 42 count."""
    first = start_helper(name="first").wait_ready()
    with Load(first.socket) as load:
        wait_until(lambda: load.done > 20 or load.failures)
        second = start_helper(name="second").wait_ready()
        third = start_helper(name="third").wait_ready()
        assert first.stop() == ExitCode.OK
        fourth = start_helper(name="fourth", arguments=QE_2).wait_ready()
        served = load.done
        wait_until(lambda: load.done > served + 20 or load.failures)
        assert second.stop() == ExitCode.OK
        assert third.stop() == ExitCode.OK
        served = load.done
        wait_until(lambda: load.done > served + 20 or load.failures)
    assert load.failures == []
    assert load.re_inits == 4
    assert fourth.metric(STALE) == 4
    assert fourth.metric(QUOTES) >= 20
    assert fourth.stop() == ExitCode.OK
    assert not fourth.socket.exists()
    assert [entry.name for entry in fourth.socket.parent.iterdir()] == []


def test_a_second_helper_takes_the_path_over_and_the_first_one_stands_by(start_helper, wait_until):
    first = start_helper().wait_ready()
    second = start_helper(name="second").wait_ready()
    wait_until(lambda: first.get("/readyz") == (503, "not ready: a newer quote helper serves\n"))
    assert first.metric("confcom_quote_helper_ready") == 0
    assert second.metric("confcom_quote_helper_ready") == 1
    assert second.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: is_served_by(first))
    GramineLike(first.socket).quote()
    assert first.stop() == ExitCode.OK
    assert not first.socket.exists()


def test_a_new_version_that_can_never_quote_leaves_the_old_one_serving(start_helper, short_dir):
    old = start_helper().wait_ready()
    damaged = short_dir / "damaged"
    damaged.mkdir()
    (damaged / "platform.json").write_text("{}")
    new = start_helper(name="new", arguments=["--state-dir", str(damaged)])
    assert new.process.wait(30) == ExitCode.UNUSABLE
    assert is_served_by(old)
    GramineLike(old.socket).quote()


def test_a_gramine_like_client_survives_an_update_of_the_quoting_enclave(start_helper, short_dir):
    old = start_helper().wait_ready()
    client = GramineLike(old.socket)
    before = client.quote()
    new = start_helper(name="new", arguments=QE_2).wait_ready()
    assert old.stop() == ExitCode.OK
    data = bytes(range(64))
    after = client.quote(data)
    assert client.inits == 2
    assert (new.metric(STALE), new.metric(INVALID)) == (1, None)
    assert Quote.parse(after).signature.qe_report_body.mr_enclave == b"\x22" * 32
    assert Quote.parse(after).header.qe_svn == 2
    assert Quote.parse(before).header.qe_svn == 1
    platform = open_platform(short_dir / "state")
    policy = Policy(mr_enclave=client.enclave.mr_enclave, report_data=data, allow_simulated=True)
    now = utc_now()
    assert verify_quote(after, TrustedRoot.load(platform.pki.root.pem), platform.collateral(now), policy, now).ok


@pytest.mark.parametrize(
    ("arguments", "code", "inits"),
    [((), "INVALID_REPORT", 1), (QE_2, "42 again and again", 6)],
    ids=["same quoting enclave", "another"],
)
def test_a_report_for_nobody_after_an_update(start_helper, arguments, code, inits):
    """Without a change of the quoting enclave the answer is final at once."""
    old = start_helper().wait_ready()
    client = GramineLike(old.socket)
    start_helper(name="new", arguments=arguments).wait_ready()

    def init_in_vain():
        client.inits += 1

    client.target = TargetInfo.parse(bytes(512))
    client.init = init_in_vain
    with pytest.raises(RefusedError, match=code):
        client.quote()
    assert client.inits == inits


def test_the_window_is_a_setting(start_helper):
    helper = start_helper(arguments=["--stale-report-window-seconds", "0"]).wait_ready()
    client = GramineLike(helper.socket)
    client.target = TargetInfo.parse(bytes(512))
    with pytest.raises(RefusedError, match="INVALID_REPORT"):
        client.quote()
    assert helper.metric(INVALID) == 1


def test_a_quoting_enclave_of_intels_is_refused(start_helper):
    helper = start_helper(
        arguments=["--simulated-qe-mrenclave", "b08903e5d5e8d13128582a7b6746a8dd1f9718f05e26465a5aae58056a882562"]
    )
    assert helper.process.wait(30) == ExitCode.USAGE
    assert "cannot have the MRENCLAVE of Intel's" in helper.log.read_text()
    assert not helper.socket.exists()


@contextlib.contextmanager
def another_program(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        yield listener


def test_another_programs_socket_stays_until_it_ends(start_helper, short_dir, wait_until):
    path = short_dir / "aesm" / "aesm.socket"
    with another_program(path):
        helper = start_helper()
        wait_until(lambda: "another program serves there" in helper.get("/readyz")[1])
        assert helper.get("/readyz")[0] == 503
        assert helper.get("/livez")[0] == 200
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert client.getpeername() == str(path)
    helper.wait_ready()
    GramineLike(path).quote()
    assert helper.stop() == ExitCode.OK


def test_another_programs_socket_is_replaced_if_that_was_asked_for(start_helper, short_dir):
    path = short_dir / "aesm" / "aesm.socket"
    with another_program(path):
        helper = start_helper(arguments=["--replace-foreign-socket"]).wait_ready()
        GramineLike(path).quote()
        assert helper.stop() == ExitCode.OK
    assert not path.exists()


def test_a_stopped_helper_leaves_what_another_program_put_in_its_place(start_helper):
    helper = start_helper().wait_ready()
    helper.socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(helper.socket))
        listener.listen(16)
        inode = helper.socket.stat().st_ino
        assert helper.stop() == ExitCode.OK
        assert helper.socket.stat().st_ino == inode


def test_a_removed_path_is_bound_again(start_helper, wait_until):
    helper = start_helper().wait_ready()
    helper.socket.unlink()
    helper.socket.parent.rmdir()
    wait_until(helper.socket.exists)
    assert stat.S_IMODE(helper.socket.stat().st_mode) == 0o666
    assert stat.S_IMODE(helper.socket.parent.stat().st_mode) == 0o755
    GramineLike(helper.socket).quote()
    helper.wait_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_helper_that_is_not_root_serves_everyone(start_helper, short_dir):
    short_dir.chmod(0o777)
    helper = start_helper(wrapper=["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]).wait_ready()
    assert helper.socket.stat().st_uid == 1000
    assert (stat.S_IMODE(helper.socket.stat().st_mode), stat.S_IMODE(helper.socket.parent.stat().st_mode)) == (
        0o666,
        0o755,
    )
    os.setegid(1001)
    os.seteuid(1001)
    try:
        GramineLike(helper.socket).quote()
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert helper.stop() == ExitCode.OK
    assert list(helper.socket.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_directory_of_roots_is_an_error_that_says_so(start_helper, short_dir):
    short_dir.chmod(0o777)
    (short_dir / "aesm").mkdir(mode=0o755)
    helper = start_helper(wrapper=["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"])
    assert helper.process.wait(30) == ExitCode.UNAVAILABLE
    assert "Permission denied" in helper.log.read_text()
    assert list((short_dir / "aesm").iterdir()) == []

"""The three modes, where this machine allows them; what was left out is printed."""

import pytest

from confcom.errors import ConfcomError
from confcom.playground.runtime.modes import Mode, choose_mode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("mode", [str(mode) for mode in Mode])
def test_the_demo_holds_in_mode(play, mode):
    try:
        choose_mode(mode)
    except ConfcomError as error:
        pytest.skip(f"mode {mode} is left out: {error}")
    report = play(mode=mode)
    assert report.ok, report.steps[-1].error
    assert report.steps[1].data["mode"] == mode
    log = "\n".join(report.steps[3].happened)
    stock_path = "AESM socket: /var/run/aesmd/aesm.socket" in log
    assert stock_path is (mode != Mode.NO_NAMESPACE)
    assert ("CONFCOM_AESM_SOCKET" in log) is (mode == Mode.NO_NAMESPACE)
    assert set(report.steps[3].data["devices"]) == {"/dev/sgx_enclave", "/dev/sgx/enclave"}
    assert "/var/run/aesmd" in report.steps[3].data["mounts"]
    assert report.steps[3].data["environment"]["SGX_AESM_ADDR"] == "1"

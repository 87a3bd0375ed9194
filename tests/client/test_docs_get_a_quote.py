import re
import subprocess
import sys
from pathlib import Path

from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "get-a-quote.md"
CALL = """
def make_report(target_info):
    from confcom.testing import SimulatedEnclave, report_data
    return SimulatedEnclave.from_name("mine").create_report(target_info, report_data(b"my challenge"))

import sys
sys.stdout.buffer.write(attest(make_report) if "attest" in globals() else quote)
"""


def test_every_block_gets_a_quote(socket_path, aesmd):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        environ = {"SGX_AESM_ADDR": "1", "CONFCOM_AESM_SOCKET": str(socket_path)}
        result = subprocess.run([sys.executable, "-c", block + CALL], env=environ, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr.decode()
        body = Quote.parse(result.stdout).body
        assert body.mr_enclave == SimulatedEnclave.from_name("mine").mr_enclave
        assert body.report_data == b"my challenge".ljust(64, b"\0")

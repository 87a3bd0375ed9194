"""The commands in docs/how-to/install-on-a-cluster.md verify a quote from a log that a kubectl stand-in prints."""

import re
import sys

import pytest

from testkit.documentation import ROOT, commands, text_of
from tests.docs.conftest import wait_for_socket

PAGE, BLOCK = "docs/how-to/install-on-a-cluster.md", "## Verify quotes of this cluster"
HELPER = "confcom quote-helper --simulated --state-dir STATE --socket {folder}/aesm.socket"
KUBECTL = "#!/bin/sh\ncat log\n"


@pytest.mark.slow
def test_the_quote_of_the_clusters_job_is_verified(folder, install, start, typed):
    install(kubectl=KUBECTL)
    wait_for_socket(start(HELPER.format(folder=folder)), folder / "aesm.socket")
    challenge = re.search(r'CONFCOM_CHALLENGE.*\n\s*value: "(\w+)"', (ROOT / "examples" / "job.yaml").read_text())[1]
    variables = {
        "SGX_AESM_ADDR": "1",
        "CONFCOM_AESM_SOCKET": str(folder / "aesm.socket"),
        "CONFCOM_SGX_ENCLAVE_DEVICE": "/dev/null",
        "CONFCOM_CHALLENGE": challenge,
    }
    done = typed(f"{sys.executable} -m confcom.sample_workload >log", **variables)
    assert done.returncode == 0, done.stderr
    section = re.sub(r"\\\n\s*", "", text_of(PAGE).partition(BLOCK)[2].partition("\n## ")[0])
    lines = [one.line.replace("export ", "export --state-dir STATE ") for one in commands(PAGE) if one.line in section]
    done = typed("\n".join(lines))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    assert typed(re.sub(r" --(mrenclave|report-data) \S+", "", lines[-1])).returncode == 3

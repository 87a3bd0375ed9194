"""How pages get a Job's quote from a cluster and verify it, as it stands there; kubectl gives the Job's log."""

import re
import sys

import pytest

from testkit.documentation import ROOT, commands

HELPER = "confcom quote-helper --simulated --state-dir STATE --socket {folder}/aesm.socket"
PAGES = {"docs/tutorial/first-quote.md": "## On a cluster", "docs/how-to/install-on-a-cluster.md": "## Verify"}
KUBECTL = """#!/bin/sh
case "$1" in
apply) cat >applied.yaml ;;
logs) cat log ;;
esac
"""
VALUE = re.compile(r'CONFCOM_CHALLENGE.*\n\s*value: "(\w+)"')
IMAGE = re.compile(r"image: (\S+)")


@pytest.fixture
def kubectl(install):
    install(kubectl=KUBECTL)


def lines_after(page, heading):
    text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text()).partition(heading)[2]
    return [one.line for one in commands(page) if one.line in text]


def run_the_job(folder, typed, manifest):
    """As the kubelet would; its log is what kubectl gives."""
    done = typed(
        f"{sys.executable} -m confcom.sample_workload >log",
        SGX_AESM_ADDR="1",
        CONFCOM_AESM_SOCKET=str(folder / "aesm.socket"),
        CONFCOM_SGX_ENCLAVE_DEVICE="/dev/null",
        CONFCOM_CHALLENGE=VALUE.search(manifest)[1],
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize("page", PAGES)
def test_the_quote_of_the_clusters_job_is_verified(folder, start, typed, until_served, page):
    until_served(start(HELPER.format(folder=folder)), folder / "aesm.socket")
    (folder / "examples").symlink_to(ROOT / "examples")
    lines = [line.replace("export ", "export --state-dir STATE ") for line in lines_after(page, PAGES[page])]
    applying = [line for line in lines if line.startswith(("CHALLENGE=", "sed "))]
    example = (ROOT / "examples" / "job.yaml").read_text()
    chosen = ""
    if applying:
        done = typed("\n".join([*applying, 'printf "$CHALLENGE"']))
        assert done.returncode == 0, done.stderr
        chosen, applied = done.stdout, (folder / "applied.yaml").read_text()
        assert IMAGE.search(applied)[1] == "REGISTRY/confcom/sample-workload:0.1.0"
        assert VALUE.search(applied)[1] == chosen != VALUE.search(example)[1]
        example = applied
    run_the_job(folder, typed, example)
    at = next(index for index, line in enumerate(lines) if "q.bin" in line)
    verifying = lines[at : at + 4]
    assert verifying[-1].startswith("confcom verify")
    done = typed("\n".join(verifying), CHALLENGE=chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^VERIFIED$", done.stdout, re.MULTILINE)
    bare = re.sub(r" --(mrenclave|report-data) \S+", "", verifying[-1])
    assert typed(bare).returncode == 3

"""Pages about SGX hardware name only existing codes, numbers and values, and ask readers for a report."""

import re

import pytest
import yaml

from confcom.aesm.error_code import AesmErrorCode, code_of
from testkit.documentation import ROOT, blocks, text_of
from testkit.hardware_causes import LINES

SYMPTOMS = "docs/how-to/attestation-symptoms.md"
PAGES = (
    "docs/how-to/aks.md",
    "docs/how-to/on-premises.md",
    "docs/how-to/alibaba.md",
    "docs/how-to/build-images.md",
    "docs/explanation/hardware-providers.md",
    SYMPTOMS,
)
NO_CODES = {"az-dcap-client", "start-aesmd"}
"""Names in the pages that look like error codes but are no codes."""


def test_codes_of_symptoms_are_in_the_list_of_codes():
    codes = set(re.findall(r"^\| \w+ \| <a [^>]+></a>`([^`]+)` \|", text_of("docs/reference/codes.md"), re.MULTILINE))
    named = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", text_of(SYMPTOMS)))
    assert len(named & codes) > 6
    assert named - codes - NO_CODES == set()


def test_numbers_of_symptoms_are_intels():
    page = text_of(SYMPTOMS)
    pairs = re.findall(r"\b(\d+), `(aesm-[a-z-]+)`", page)
    assert {int(number) for number, _ in pairs} >= {1, 12, 38, 44}
    assert [code for number, code in pairs if code_of(AesmErrorCode(int(number))) != code] == []


@pytest.mark.parametrize("line", LINES)
def test_symptoms_explain_each_line_of_aesmds_log(line):
    message, _, number = line.partition(" 0xe0") if line.startswith("Error returned") else (line, "", "")
    assert message in text_of(SYMPTOMS)
    assert f"0xe0{number}" in text_of(SYMPTOMS)


@pytest.mark.parametrize("page", PAGES)
def test_values_are_the_charts(page):
    values = yaml.safe_load((ROOT / "charts" / "confcom" / "values.yaml").read_text())
    for name in re.findall(r"\bquoteHelper(?:\.\w+)+", text_of(page)):
        found = values
        for part in name.split("."):
            assert part in found or name.startswith("quoteHelper.collateral.custom."), f"{page}: {name}"
            found = found.get(part, {})


def test_the_job_of_a_report_has_no_privileges():
    (job,) = (yaml.safe_load(block) for block in blocks("docs/reference/hardware-report.md", "yaml"))
    pod = job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert container["command"][:3] == ["python", "-m", "confcom.hardware_report"]
    (mount,) = container["volumeMounts"]
    assert f"--host-root={mount['mountPath']}" in container["command"]
    assert (mount["readOnly"], volume["hostPath"]["type"]) == (True, "Directory")
    assert not {"hostPID", "hostNetwork", "hostIPC"} & pod.keys()
    assert pod["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert security["runAsNonRoot"] is security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not [name for name in container["resources"]["limits"] if "sgx" in name]

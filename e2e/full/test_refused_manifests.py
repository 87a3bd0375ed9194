"""Statements of docs/how-to/fix-a-refused-manifest.md, on a real API server: its fragments and its messages."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

import pytest
import yaml

from e2e.add_on import EPC, ROOT
from e2e.admission.pattern import template
from e2e.tenants import BASELINE, IMAGE, Tenant
from e2e.waiting import until

PAGE = (ROOT / "docs" / "how-to" / "fix-a-refused-manifest.md").read_text()
POD = f"""
apiVersion: v1
kind: Pod
metadata:
  name: probe
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: {IMAGE}
"""
OF_THE_POD, OF_A_CONTAINER = 2, 4
"""Indentation of a Pod's fields and of a container's fields in `POD`."""
pytestmark = pytest.mark.usefixtures("installed", "nodes")
REFUSED, NO_POD, WAITS = "Refused when you apply it", "Accepted, and there is no Pod", "Accepted, and the Pod waits"


@dataclass(frozen=True)
class Case:
    """A section of the page: the YAML of a container or a Pod, and Kubernetes' message about it."""

    name: str
    fragment: str
    message: str

    def pod(self) -> str:
        indent = OF_THE_POD if self.fragment.startswith("volumes:") else OF_A_CONTAINER
        return POD + textwrap.indent(self.fragment, " " * indent)

    def __str__(self) -> str:
        return self.name


def cases(heading: str) -> list[Case]:
    """Cases that the page has under a heading."""
    part = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^### (.+?)$.*?^```yaml\n(.*?)^```$.*?^```text\n(.*?)\n```$", part, re.DOTALL | re.MULTILINE)
    assert len(found) == part.count("\n```yaml\n")
    return [Case(*one) for one in found]


@pytest.mark.parametrize("case", cases(REFUSED), ids=str)
def test_refused_when_applied(tenant: Tenant, case: Case) -> None:
    message = case.message.replace("NAMESPACE", tenant.namespace)

    def refusal() -> str:
        return tenant.create(case.pod(), "--dry-run=server", check=False).stderr

    # The API server enforces a newly installed admission policy after a short time.
    assert message in until(refusal, "the API server refuses")


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
@pytest.mark.parametrize("case", cases(NO_POD), ids=str)
def test_events_tell_that_pods_are_refused(tenant: Tenant, case: Case, kind: str) -> None:
    tenant.cluster.kubectl("label", "namespace", tenant.namespace, BASELINE)
    tenant.kubectl("create", "quota", "enclave-memory", f"--hard=requests.{EPC}=20")
    tenant.create(template(kind, yaml.safe_load(case.pod())))
    query = ("get", f"--namespace={tenant.namespace}", "events", "--field-selector=reason=FailedCreate")
    told = until(lambda: tenant.cluster.kubectl_json(*query)["items"], "there is an event")
    assert case.message in told[0]["message"]


@pytest.mark.parametrize("case", cases(WAITS), ids=str)
def test_a_pod_waits_with_the_reason(tenant: Tenant, case: Case) -> None:
    tenant.create(case.pod())
    assert case.message in tenant.why_pending("probe")

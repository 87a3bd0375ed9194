"""What `helm template` renders without a cluster, applied in any order and again, as GitOps controllers do."""

import json
import random
import secrets

import pytest
import yaml

from e2e import add_on
from e2e.add_on import CONSENT, HERE, RELEASE, ROOT, SIMULATED_LABEL, SYSTEM
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, confcom, document_of
from e2e.images import CHART_REGISTRY
from e2e.waiting import until


@pytest.fixture
def rendered(bare, kubelet_version):
    """The chart's documents for this cluster, rendered without it; afterwards their objects are deleted."""
    version = ".".join(map(str, kubelet_version))
    settings = [f"--set={one}" for one in (*CONSENT, CHART_REGISTRY)]
    chart = str(ROOT / "charts" / "confcom")
    text = bare.helm(
        "template", RELEASE, chart, HERE, *settings, f"--set-string=devicePlugin.apiServer={version}"
    ).stdout
    yield [document for document in yaml.safe_load_all(text) if document]
    add_on.mark_removal(bare)
    bare.kubectl("delete", "--filename=-", "--ignore-not-found", input=text)


@pytest.mark.timeout(400, func_only=True)
def test_documents_apply_in_any_order_and_again(bare, rendered, rewriting, tell):
    seed = secrets.randbits(32)
    tell(f"{len(rendered)} documents, shuffled with the seed {seed}")
    shuffled = random.Random(seed)
    bare.kubectl("create", "namespace", SYSTEM, check=False)
    add_on.create_root(bare)
    bare.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}=true")

    def run(verb, *more):
        shuffled.shuffle(rendered)
        return bare.kubectl(verb, "--filename=-", *more, input=yaml.safe_dump_all(rendered)).stdout

    def generations():
        found = json.loads(run("get", "--output=json"))["items"]
        return {(one["kind"], one["metadata"]["name"]): one["metadata"].get("generation") for one in found}

    first = run("apply")
    before = generations()
    until(lambda: add_on.serves(bare, [NODE_NAME]), "the node offers EPC and has its daemons", seconds=120)
    again = run("apply")

    assert {line.rpartition(" ")[2] for line in first.splitlines()} == {"created"}
    assert {line.rpartition(" ")[2] for line in again.splitlines()} <= {"unchanged", "configured"}
    assert generations() == before
    found = document_of(confcom(bare, "test", JSON))
    assert [(one["device"], one["verified"]) for one in found["results"]] == [(True, True)]

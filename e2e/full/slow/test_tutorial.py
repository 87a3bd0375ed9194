"""The second half of docs/tutorial/first-quote.md on the real cluster, as it stands but for two names."""

import re

import pytest

from e2e.add_on import ROOT
from e2e.cluster.addresses import NODE_NAME
from e2e.images_workshop import REGISTRY
from testkit.documentation import commands, text_of

SLOW_SECONDS = 900
"""It ends with `confcom disable`, which waits for the kubelet to forget the resources: 5 minutes."""
PAGE, HALF = "docs/tutorial/first-quote.md", "## On a cluster"
PLACEHOLDER, NODE = "REGISTRY", "worker-1"
"""As the page calls them."""


def lines_of_the_half():
    half = re.sub(r"\\\n\s*", "", text_of(PAGE).partition(HALF)[2])
    return [one.line for one in commands(PAGE) if one.line in half]


@pytest.fixture
def newcomer(bare):
    yield bare
    bare.kubectl("delete", "job", "sgx-test", "--ignore-not-found")


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
def test_each_line_of_the_clusters_half_succeeds(newcomer, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line.replace(PLACEHOLDER, REGISTRY).replace(NODE, NODE_NAME) for line in lines_of_the_half()]
    assert {"confcom", "kubectl"} <= {line.split()[0] for line in lines}
    typed = [f'{line}\nprintf "\\nexit $?: line {at}\\n"' for at, line in enumerate(lines)]
    script = "\n".join(["set -o pipefail", f"cd {tmp_path}", *typed])

    done = newcomer.run(["bash", "-c", script], check=False, timeout=SLOW_SECONDS)

    said = done.stdout + done.stderr
    assert re.findall(r"^exit \d+: line \d+$", done.stdout, re.MULTILINE) == [
        f"exit 0: line {at}" for at in range(len(lines))
    ], said
    last = max(at for at, line in enumerate(lines) if line.startswith("confcom verify"))
    answer = done.stdout.partition(f"exit 0: line {last - 1}\n")[2].partition(f"exit 0: line {last}\n")[0]
    assert re.search(r"^VERIFIED$", answer, re.MULTILINE), said
    assert "SIMULATED" in answer

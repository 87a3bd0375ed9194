import json
import re
import textwrap

import pytest
import yaml

from confcom.quote_helper.limits_and_deadlines import HelperLimits
from e2e.dockerfile import stages_of
from testkit.chart_golden import ROOT, golden
from testkit.chart_manifests import HELPER, containers, daemon, mounts_of
from testkit.documentation import blocks, text_of

IMAGES = ROOT / "images"


@pytest.fixture
def aesmd():
    return containers(daemon(golden("hardware-aesmd"), HELPER))["aesmd"]


@pytest.fixture(params=["aesmd", "aesmd-azure"])
def image(request):
    """All instructions of a Dockerfile target in order, after the instructions of the target's base."""
    stages = stages_of(IMAGES / "aesmd" / "Dockerfile")
    return [*stages["service"].instructions, *stages[request.param].instructions]


def test_aesmd_is_started_as_the_image_starts_it(aesmd, image):
    (usual,) = (arguments for keyword, arguments in image if keyword == "CMD")
    assert aesmd["args"] == json.loads(usual)
    assert not {"command", "workingDir"} & set(aesmd), "they would replace those of the image"
    assert "LD_LIBRARY_PATH" not in {one["name"] for one in aesmd["env"]}
    (user,) = (arguments for keyword, arguments in image if keyword == "USER")
    context = aesmd["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def test_the_entry_point_looks_where_the_private_socket_is(aesmd):
    (directory,) = re.findall(r"^socket_directory=(.*)$", (IMAGES / "aesmd" / "start-aesmd").read_text(), re.MULTILINE)
    assert mounts_of(aesmd)["aesmd-private"]["mountPath"] == directory


def test_the_reference_has_the_probe(aesmd):
    """tests/relay/test_restart_policy.py tests the behaviour of this probe."""
    shown = re.search(r"    - \|\n((?:      .*\n)+)```", text_of("docs/reference/quote-helper.md"))
    assert textwrap.dedent(shown[1]).strip() == aesmd["livenessProbe"]["exec"]["command"][-1].strip()


def test_who_waits_for_a_lost_enclave_outlasts_the_restart(aesmd):
    """On a cluster, aesmd's end, the start of the next aesmd and the self-test took up to 3 s together."""
    probe = aesmd["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] + 3 <= 9 < HelperLimits().provider_wait_seconds


PAGE = "docs/explanation/hardware-pod.md"


def shown_pod():
    pod = {}
    for block in blocks(PAGE, "yaml"):
        for key, value in yaml.safe_load(block).items():
            pod[key] = [*pod.get(key, []), *value] if isinstance(value, list) else value
    return pod


def test_the_page_shows_the_pod_that_its_settings_render(render):
    chosen = dict(re.findall(r"^--set ([\w.]+)=(\S+)$", (ROOT / PAGE).read_text(), re.MULTILINE))
    registry = chosen.pop("image.registry")
    settings = [f"{name}={value}" for name, value in chosen.items()]
    shown, rendered = shown_pod(), daemon(render(*settings, registry=registry), HELPER)
    for pod in (shown, rendered):
        probe = containers(pod)["aesmd"]["livenessProbe"]["exec"]
        probe["command"] = [word.strip() for word in probe["command"]]
    assert shown == rendered

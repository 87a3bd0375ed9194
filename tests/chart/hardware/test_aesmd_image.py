"""The Pod of hardware nodes and the images that it is for fit together."""

import json
import re

import pytest

from testkit.chart_manifests import AESMD, HELPER, containers, daemon, mounts_of
from testkit.dockerfiles import stages_of
from testkit.documentation import ROOT

IMAGES = ROOT / "images"
NEEDS = {"command", "workingDir"}
"""What would replace the image's entry point or its directory."""


@pytest.fixture
def aesmd(plain_render):
    return containers(daemon(plain_render(AESMD), HELPER))["aesmd"]


@pytest.fixture(params=["aesmd", "aesmd-azure"])
def image(request):
    """All instructions of a target, those of its base first."""
    stages = stages_of(IMAGES / "aesmd" / "Dockerfile")
    return [*stages["service"].instructions, *stages[request.param].instructions]


def test_aesmd_is_started_as_the_image_starts_it(aesmd, image):
    (usual,) = (arguments for keyword, arguments in image if keyword == "CMD")
    assert aesmd["args"] == json.loads(usual)
    assert not NEEDS & set(aesmd)
    assert "LD_LIBRARY_PATH" not in {one["name"] for one in aesmd["env"]}


def test_aesmd_runs_as_the_images_user(aesmd, image):
    (user,) = (arguments for keyword, arguments in image if keyword == "USER")
    context = aesmd["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def test_the_entry_point_looks_where_the_private_socket_is(aesmd):
    (directory,) = re.findall(r"^socket_directory=(.*)$", (IMAGES / "aesmd" / "start-aesmd").read_text(), re.MULTILINE)
    assert mounts_of(aesmd)["aesmd-private"]["mountPath"] == directory

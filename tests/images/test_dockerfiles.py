import importlib.util
import json
import re
import shlex

import pytest

from e2e.dockerfile import stages_of
from e2e.images import reference
from testkit.documentation import ROOT

OURS, EXAMPLE, AESMD = "images/Dockerfile", "images/example-intel/Dockerfile", "images/aesmd/Dockerfile"
USERS = {
    "device-plugin": "0:0",
    "quote-helper": "10001:10001",
    "controller": "10003:10003",
    "sample-workload": "10002:10002",
}
"""User of each image. Only the plugin runs as root, and all other images have different users."""


@pytest.fixture
def stages():
    return stages_of(ROOT / OURS)


@pytest.mark.parametrize("dockerfile", [OURS, EXAMPLE, AESMD])
def test_bases_have_a_digest_and_nothing_is_added_unseen(dockerfile):
    any_stages = stages_of(ROOT / dockerfile)
    outside = {stage.base for stage in any_stages.values()} - set(any_stages)
    assert outside
    for base in outside:
        assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9/_-]+:[0-9][a-z0-9.-]*@sha256:[0-9a-f]{64}", base), base
    assert not [line for stage in any_stages.values() for line in stage.all("ADD")]


def test_an_image_and_the_page_tell_the_base(stages):
    assert "BASE" in stages["runtime"].all("ARG")
    (labels,) = stages["runtime"].all("LABEL")
    assert 'org.opencontainers.image.base.name="$BASE"' in labels
    page = (ROOT / "docs" / "how-to" / "build-images.md").read_text()
    name, _, digest = stages["base"].base.partition("@")
    assert name.removeprefix("docker.io/library/") in page
    assert digest not in page  # nobody would update a digest on this page


def test_packages_are_installed_by_hash_or_are_our_own_wheel(stages):
    lines = [line for stage in stages.values() for line in stage.all("RUN")]
    steps = [step for line in lines for step in line.split(" && ") if " install " in step]
    assert len(steps) == 4
    for step in steps:
        flags = set(step.split())
        assert {"--no-compile", "--no-deps"} <= flags, step  # the variable PIP_NO_COMPILE does the opposite
        assert {"--require-hashes", "--only-binary=:all:"} <= flags or "--no-index" in flags, step


def test_only_the_build_stage_runs_anything(stages):
    assert [name for name, stage in stages.items() if stage.all("RUN")] == ["build"]
    assert not stages["build"].all("ARG")


@pytest.mark.parametrize("target", USERS)
def test_an_image_runs_its_program_as_its_user_without_a_shell(stages, target):
    (entrypoint,) = stages[target].all("ENTRYPOINT")
    python, option, module = json.loads(entrypoint)
    assert (python, option) == ("/opt/confcom/bin/python", "-m")
    assert module == f"confcom.{target.replace('-', '_')}"
    program = importlib.util.find_spec(module)
    assert program.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__")
    assert stages[target].all("USER") == [USERS[target]]


def test_all_share_layers_but_the_controllers_client_library(stages):
    assert {stages[target].base for target in USERS} == {"runtime"}
    assert not [line for target in USERS for line in stages[target].all("RUN")]
    copies = {target: stages[target].all("COPY") for target in USERS}
    assert [target for target in USERS if copies[target]] == ["controller"]
    assert all("/opt/controller/" in line for line in copies["controller"])


def test_what_is_sent_to_the_builder_is_what_is_copied(stages):
    copies = [line for stage in stages.values() for line in stage.all("COPY") if "--from=" not in line]
    copied = {path for line in copies for path in shlex.split(line)[:-1]}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {line[1:] for line in rules if line.startswith("!")} == {path.split("/")[0] for path in copied}
    assert all((ROOT / path).exists() for path in copied)


def test_only_the_example_says_that_it_quotes_out_of_process(stages):
    example = stages_of(ROOT / EXAMPLE)
    shipped = list(example.values())[-1]
    assert shipped.base == "sgx"
    assert "SGX_AESM_ADDR=1" in shipped.all("ENV")
    assert "libsgx-quote-ex" in shipped.all("RUN")[0].split()
    assert "--no-install-recommends" in shipped.all("RUN")[0].split()
    assert "apt-key" not in str(example)
    assert "Signed-By: /etc/apt/keyrings/intel-sgx.asc" in example["sgx"].all("RUN")[1]
    assert "SGX_AESM_ADDR" not in str(stages)


def test_manifests_in_examples_find_the_sample_by_name():
    for manifest in (ROOT / "examples").glob("*.yaml"):
        images = set(re.findall(r"image: (\S+)", manifest.read_text()))
        assert images == {reference("sample-workload")}, manifest

"""What everybody who builds the images relies on, read from the Dockerfiles themselves."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TARGETS = ("device-plugin", "quote-helper", "controller", "sample-workload")


def test_bases_are_named_in_full_with_a_release_and_its_digest(any_stages):
    outside = {stage.base for stage in any_stages.values()} - set(any_stages)
    assert outside
    for base in outside:
        assert re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9/_-]+:[0-9][a-z0-9.-]*@sha256:[0-9a-f]{64}", base), base


def test_an_image_tells_which_base_it_was_built_on(stages):
    assert "BASE" in stages["runtime"].all("ARG")
    (labels,) = stages["runtime"].all("LABEL")
    assert 'org.opencontainers.image.base.name="$BASE"' in labels


def test_the_page_about_images_names_the_same_base(stages):
    page = (ROOT / "docs" / "how-to" / "build-images.md").read_text()
    name, _, digest = stages["base"].base.partition("@")
    assert name.removeprefix("docker.io/library/") in page
    assert digest not in page  # which would be forgotten there when it is renewed


def test_nothing_is_added_from_elsewhere_unseen(any_stages):
    assert not [line for stage in any_stages.values() for line in stage.all("ADD")]


def test_every_installation_of_packages_is_by_hash_or_of_our_own_wheel(stages):
    lines = [line for stage in stages.values() for line in stage.all("RUN")]
    steps = [step for line in lines for step in line.split(" && ") if " install " in step]
    assert len(steps) == 4
    for step in steps:
        flags = set(step.split())
        assert "--no-deps" in flags, step
        assert {"--require-hashes", "--only-binary=:all:"} <= flags or "--no-index" in flags, step


def test_only_the_build_stage_runs_anything_and_it_knows_the_time_of_its_source(stages):
    assert [name for name, stage in stages.items() if stage.all("RUN")] == ["build"]
    keywords = [keyword for keyword, _ in stages["build"].instructions]
    assert "SOURCE_DATE_EPOCH" in stages["build"].all("ARG")
    assert keywords.index("ARG") < keywords.index("RUN")


@pytest.mark.parametrize("target", TARGETS)
def test_the_program_of_an_image_exists_and_is_started_without_a_shell(stages, target):
    (entrypoint,) = stages[target].all("ENTRYPOINT")
    python, option, module = json.loads(entrypoint)
    assert (python, option) == ("/opt/confcom/bin/python", "-m")
    assert importlib.util.find_spec(f"{module}.__main__")
    assert module == f"confcom.{target.replace('-', '_')}"


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_plugin_is_root_and_no_two_share_a_user(stages, target):
    (user,) = stages[target].all("USER")
    users = {"device-plugin": "0:0", "quote-helper": "10001:10001", "sample-workload": "10002:10002"}
    assert user == (users | {"controller": "10003:10003"})[target]


def test_all_share_their_layers_and_the_controller_alone_has_its_client_library(stages):
    assert {stages[target].base for target in TARGETS} == {"runtime"}
    assert not [line for target in TARGETS for line in stages[target].all("RUN")]
    copied = {target: stages[target].all("COPY") for target in TARGETS}
    assert [target for target in TARGETS if copied[target]] == ["controller"]
    assert all("/opt/controller/" in line for line in copied["controller"])


def test_what_is_sent_to_the_builder_is_what_is_copied(copied):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {line[1:] for line in rules if line.startswith("!")} == {path.split("/")[0] for path in copied}
    assert all((ROOT / path).exists() for path in copied)


def test_the_example_quotes_out_of_process_and_trusts_a_key_for_one_repository(example):
    shipped = list(example.values())[-1]
    assert shipped.base == "sgx"
    assert "SGX_AESM_ADDR=1" in shipped.all("ENV")
    assert "libsgx-quote-ex" in shipped.all("RUN")[0].split()
    assert "--no-install-recommends" in shipped.all("RUN")[0].split()
    assert "apt-key" not in str(example)
    assert "Signed-By: /etc/apt/keyrings/intel-sgx.asc" in example["sgx"].all("RUN")[1]


def test_our_images_leave_the_mode_of_quoting_to_the_manifest(stages):
    assert "SGX_AESM_ADDR" not in str(stages)


def test_the_builder_builds_these_targets_with_these_locks(builder, copied):
    workshop = builder("images_workshop")
    assert workshop.IMAGES == TARGETS
    assert {f"requirements/{lock}" for lock in workshop.LOCKS} == {p for p in copied if p.startswith("requirements/")}


def test_the_manifests_in_examples_find_the_sample_under_its_name(builder):
    names = builder("images_workshop").references("sample-workload")
    for manifest in (ROOT / "examples").glob("*.yaml"):
        images = set(re.findall(r"image: (\S+)", manifest.read_text()))
        assert images
        assert images <= set(names), manifest


@pytest.mark.parametrize("image", TARGETS)
def test_the_builders_names_are_of_this_version_and_the_newest_and_of_a_host_that_nobody_can_own(builder, image):
    version, newest = builder("images_workshop").references(image)
    assert newest == f"registry.test/confcom/{image}:latest"  # RFC 6761
    assert version.rpartition(":")[0] == newest.rpartition(":")[0]
    assert version.rpartition(":")[2][0].isdigit()

"""What is refused of a quote helper on hardware nodes, and what people read about it."""

import pytest

from testkit.chart_manifests import AESMD, HELPER, PLUGIN, containers, daemon, pods

COLLATERAL = "quoteHelper.collateral"
MIXED = ("simulated.enabled=true", "simulated.besideHardware=true")
DIGEST = "sha256:" + "0123456789abcdef" * 4
REQUIRED = (
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key=a"
)
CUSTOM = f"{COLLATERAL}.custom"


@pytest.mark.parametrize("settings", [(), ("quoteHelper.aesmd.image.tag=v2",)], ids=str)
def test_hardware_without_an_aesmd_is_refused_with_the_ways_out(plain_template, refused, settings):
    done = plain_template(*settings)
    assert refused(done) == "aesmd-image-missing"
    lines = [line.strip() for line in done.stderr.splitlines()]
    for said in (
        "quoteHelper.aesmd.image.repository=REPOSITORY",
        "quoteHelper.enabled=false",
        "simulated.enabled=true",
    ):
        assert f"--set {said}" in lines
    assert "docs/how-to/build-images.md" in done.stderr


def test_the_page_that_it_names_exists(chart):
    assert (chart.parents[1] / "docs/how-to/build-images.md").exists()


def test_beside_simulated_nodes_half_an_image_is_refused(plain_template, refused):
    done = plain_template(*MIXED, "quoteHelper.aesmd.image.digest=" + DIGEST)
    assert refused(done) == "aesmd-image-missing"
    assert "--set simulated.enabled=true" not in done.stderr


def test_nobody_is_asked_for_an_image_where_no_helper_runs_on_hardware(plain_render):
    assert ("DaemonSet", HELPER) not in plain_render(*MIXED)
    assert ("DaemonSet", HELPER) in plain_render("simulated.enabled=true")
    assert set(pods(plain_render("quoteHelper.enabled=false"))) == {PLUGIN}


@pytest.mark.parametrize(
    "settings",
    [
        ("preset=pccs",),
        ("preset=alibaba",),
        ("preset=custom",),
        ("preset=custom", "custom.PCCS_URL=https://a/"),
        ("preset=custom", "custom.collateral_service=https://a/"),
    ],
    ids=str,
)
def test_a_preset_without_its_address(plain_template, refused, settings):
    assert refused(plain_template(AESMD, *(f"{COLLATERAL}.{one}" for one in settings))) == "collateral-url-missing"


def test_collateral_of_a_helper_that_does_not_run_is_not_looked_at(plain_template):
    assert not plain_template("simulated.enabled=true", f"{COLLATERAL}.preset=pccs").returncode


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("quoteHelper.provider=aesmd", "/quoteHelper"),
        ("quoteHelper.sgxPrvGroup=sgx_prv", "/quoteHelper/sgxPrvGroup"),
        ("quoteHelper.sgxPrvGroup=0", "/quoteHelper/sgxPrvGroup"),
        ("quoteHelper.sgxPrvGroup=2147483648", "/quoteHelper/sgxPrvGroup"),
        ("quoteHelper.aesmd.image.repository=Our/aesmd", "/quoteHelper/aesmd/image/repository"),
        ("quoteHelper.aesmd.image.digest=sha256:1", "/quoteHelper/aesmd/image/digest"),
        ("quoteHelper.aesmd.command=sh", "/quoteHelper/aesmd"),
        ("quoteHelper.aesmd.resources.limits.sgx\\.intel\\.com/provision=1", "/quoteHelper/aesmd/resources/limits"),
        ("quoteHelper.expectedRoot=root.pem", "/quoteHelper/expectedRoot"),
        (f"{COLLATERAL}.preset=google", f"/{COLLATERAL}/preset"),
        (f"{COLLATERAL}.url=https://a/", f"/{COLLATERAL}"),
        (f"{COLLATERAL}.pccs.url=http://pccs/sgx/certification/v4/", f"/{COLLATERAL}/pccs/url"),
        (f"{COLLATERAL}.pccs.url=https://pccs:8081/", f"/{COLLATERAL}/pccs/url"),
        (f"{COLLATERAL}.pccs.url=https://pccs/sgx/certification/v4/?a=b", f"/{COLLATERAL}/pccs/url"),
        (f"{COLLATERAL}.pccs.url=pccs", f"/{COLLATERAL}/pccs/url"),
        (f"{COLLATERAL}.alibaba.region=a.evil.example/", f"/{COLLATERAL}/alibaba/region"),
        (f"{COLLATERAL}.alibaba.vpc=maybe", f"/{COLLATERAL}/alibaba/vpc"),
        (f"{COLLATERAL}.caBundle=our-ca", f"/{COLLATERAL}/caBundle"),
        (f"{COLLATERAL}.caBundle.key=a/b", f"/{COLLATERAL}/caBundle/key"),
        (f"{COLLATERAL}.proxy.https=proxy:3128", f"/{COLLATERAL}/proxy/https"),
        (f"{COLLATERAL}.proxy.ftp=http://proxy", f"/{COLLATERAL}/proxy"),
        (f"{COLLATERAL}.custom=text", f"/{CUSTOM}"),
        (f"{CUSTOM}.pccs_url=https://a/v4", f"/{CUSTOM}/pccs_url"),
        (f"{CUSTOM}.pccs_url=localhost", f"/{CUSTOM}/pccs_url"),
        (f"{CUSTOM}.use_secure_cert=no", f"/{CUSTOM}/use_secure_cert"),
        (f"{CUSTOM}.retry_times=many", f"/{CUSTOM}/retry_times"),
        (f"{CUSTOM}.retry_times=6", f"/{CUSTOM}/retry_times"),
        (f"{CUSTOM}.retry_delay=10", f"/{CUSTOM}/retry_delay"),
        (f"{CUSTOM}.pccs_api_version=3", f"/{CUSTOM}/pccs_api_version"),
        (f"{CUSTOM}.pck_cache_expire_hours=2161", f"/{CUSTOM}/pck_cache_expire_hours"),
        (f"{CUSTOM}.custom_request_options.get_cert.headers.metadata=1", f"/{CUSTOM}/custom_request_options"),
        (f"{CUSTOM}.custom_request_options.get_crl.headers.a=b", f"/{CUSTOM}/custom_request_options"),
    ],
)
def test_nonsense_is_refused_with_its_place(plain_template, setting, place):
    done = plain_template(AESMD, setting)
    assert done.returncode != 0
    assert f"at '{place.replace('.', '/')}" in done.stderr


def test_a_private_key_is_no_root(plain_template, values_file):
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    key = certificate.replace("CERTIFICATE", "PRIVATE KEY")
    assert not plain_template(AESMD, values=values_file({"quoteHelper": {"expectedRoot": certificate}})).returncode
    for text in (key, certificate + key, key + certificate):
        done = plain_template(AESMD, values=values_file({"quoteHelper": {"expectedRoot": text}}))
        assert "at '/quoteHelper/expectedRoot'" in done.stderr


# Images.


def test_the_providers_image_is_chosen_as_any_other(plain_render):
    image = "quoteHelper.aesmd.image"
    manifests = plain_render(
        AESMD, f"{image}.registry=b.example", f"{image}.digest={DIGEST}", f"{image}.pullPolicy=Always"
    )
    sidecar = containers(daemon(manifests, HELPER))["aesmd"]
    assert (sidecar["image"], sidecar["imagePullPolicy"]) == (f"b.example/our/aesmd@{DIGEST}", "Always")


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ((AESMD,), ["devicePlugin", "quoteHelper", "quoteHelper.aesmd"]),
        (("quoteHelper.aesmd.image.repository=a.example/our/aesmd",), ["devicePlugin", "quoteHelper"]),
    ],
)
def test_an_image_from_anywhere_is_refused_of_what_runs_alone(plain_template, refused, settings, lacking):
    done = plain_template(*settings, registry="")
    assert refused(done) == "images-from-anywhere"
    wanted = " ".join(f"--set {one}.image.digest=sha256:DIGEST" for one in lacking)
    assert wanted in [line.strip() for line in done.stderr.splitlines()]


# Memory.


@pytest.mark.parametrize(("component", "smallest"), [("quoteHelper.aesmd", 64), ("quoteHelper", 128)])
def test_too_little_memory(plain_template, refused, component, smallest):
    def limited_to(mib):
        return plain_template(AESMD, f"{component}.resources.limits.memory={mib}Mi")

    assert limited_to(smallest).returncode == 0
    done = limited_to(smallest - 1)
    assert refused(done) == "memory-limit-too-small"
    assert f"{component}.resources.limits.memory is {smallest - 1}Mi" in done.stderr


def test_a_request_above_aesmds_limit(plain_template, refused):
    done = plain_template(AESMD, "quoteHelper.aesmd.resources.requests.memory=1Gi")
    assert refused(done) == "memory-request-above-limit"


@pytest.mark.parametrize("component", ["devicePlugin", "quoteHelper"])
def test_two_conditions_for_nodes_are_refused(plain_template, refused, aks, component):
    done = plain_template(AESMD, f"{component}.{REQUIRED}", values=aks)
    assert refused(done) == "two-node-conditions"
    assert f"{component}.affinity" in done.stderr


# What is read afterwards.


@pytest.fixture(scope="module")
def notes(helm, chart):
    def read(*settings, more=()):
        chosen = [word for one in ("image.registry=registry.test", *settings) for word in ("--set", one)]
        done = helm("install", "mine", chart, "--namespace", "sgx", *chosen, *more, "--dry-run=client")
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    return read


def test_notes_of_hardware(notes):
    text = notes(AESMD)
    assert "NEVER RUN ON SGX HARDWARE" in text
    assert "confcom hardware-report" in text
    assert "sets 6 MiB of its EPC aside" in text
    assert "registry.test/our/aesmd:0.1.0" in text
    assert f"daemonset/{HELPER}" in text
    assert "TEST ROOT" not in text
    assert "simulat" not in text.lower()


def test_notes_of_a_test_root(notes, tmp_path):
    root = tmp_path / "root.pem"
    root.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    text = notes(AESMD, more=("--set-file", f"quoteHelper.expectedRoot={root}"))
    assert "TEST ROOT" in text
    assert "never genuine" in text


def test_notes_beside_simulated_nodes_say_whether_hardware_has_a_helper(notes):
    assert "no quote helper, for which quoteHelper.aesmd.image names no image" in notes(*MIXED)
    text = notes(*MIXED, AESMD)
    assert "no quote helper" not in text
    assert "NEVER RUN ON SGX HARDWARE" in text

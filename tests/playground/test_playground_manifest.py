import contextlib
import json
import re
import string
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.errors import ConfcomError
from confcom.playground.api.errors import ManifestError
from confcom.playground.demo.context import examples_folder
from confcom.playground.manifests.documents import MAX_MANIFEST_BYTES
from confcom.playground.manifests.manifest_files import parse_manifests
from confcom.playground.manifests.quantity import Quantity
from confcom.playground.manifests.v1 import Job, Pod, RestartPolicy

ROOT = Path(__file__).resolve().parents[2]
EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"

SEED_JOB = """
apiVersion: batch/v1
kind: Job
metadata:
  name: sgx-test
spec:
  template:
    spec:
      containers:
      - name: sgxtest
        image: registry/repository:version
        env:
        - name: SGX_AESM_ADDR
          value: 1
        resources:
          limits:
            kubernetes.azure.com/sgx_epc_mem_in_MiB: 10
        volumeMounts:
        - name: var-run-aesmd
          mountPath: /var/run/aesmd
      restartPolicy: "Never"
      volumes:
      - name: var-run-aesmd
        hostPath:
          path: /var/run/aesmd
"""


def refused(document):
    """The error for a manifest, which is text or an object."""
    with pytest.raises(ManifestError) as caught:
        parse_manifests(document if isinstance(document, str) else json.dumps(document))
    return caught.value


def documented():
    """What the documentation says of manifests that are refused: heading, fragment of a container, message."""
    page = (ROOT / "docs" / "how-to" / "fix-a-refused-manifest.md").read_text()
    part = page.split("\n## Refused when you apply it\n", 1)[1].split("\n## ", 1)[0]
    pattern = r"^### (.+?)$.*?^```yaml\n(.*?)^```$.*?^```text\n(.*?)\n```$"
    return {heading: found for heading, *found in re.findall(pattern, part, re.DOTALL | re.MULTILINE)}


@pytest.mark.parametrize(
    ("heading", "code"),
    [
        ("Requests differ from limits", "request-differs-from-limit"),
        ("Requests without limits", "limit-missing"),
        ("Half a MiB", "quantity-not-an-integer"),
        ("The resource's name without its domain", "resource-name-invalid"),
        ("The value of SGX_AESM_ADDR is a number", "wrong-type"),
        ("A unit that Kubernetes does not know", "not-a-quantity"),
    ],
)
def test_what_the_documentation_says_is_refused(heading, code):
    fragment, message = documented()[heading]
    head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: i\n"
    error = refused(head + textwrap.indent(fragment, "    "))
    assert error.error_code == code
    for filled_in in re.findall(r"\S*[./]\S*\w", message):
        assert filled_in in error.what


def test_the_published_job_is_refused_and_the_remedy_names_the_field():
    error = refused(SEED_JOB)
    assert error.error_code == "wrong-type"
    assert "spec.template.spec.containers[0].env[0].value" in error.remedy


def test_the_corrected_job_is_read_as_it_stands():
    (job,), warnings = parse_manifests(SEED_JOB.replace("value: 1", 'value: "1"'))
    assert isinstance(job, Job)
    spec = job.spec.template.spec
    assert (job.name, job.spec.backoff_limit, spec.restart_policy) == ("sgx-test", 6, RestartPolicy.NEVER)
    (container,) = spec.containers
    assert container.devices == {EPC: 10} == spec.requests
    assert [(v.name, v.value) for v in container.env] == [("SGX_AESM_ADDR", "1")]
    assert [(m.name, m.mount_path, m.read_only) for m in container.volume_mounts] == [
        ("var-run-aesmd", "/var/run/aesmd", False)
    ]
    assert [(v.name, v.host_path.path) for v in spec.volumes] == [("var-run-aesmd", "/var/run/aesmd")]
    assert warnings == ()


def pod(containers=None, **spec):
    containers = [{"name": "c", "image": "i"}] if containers is None else containers
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def container(**fields):
    return pod([{"name": "c", "image": "i", **fields}])


def job(template=None, **spec):
    template = template or {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
    job_spec = {"template": {"spec": template}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": job_spec}


@pytest.mark.parametrize(
    ("document", "shown", "field", "wanted"),
    [
        (container(env=[{"name": "A", "value": True}]), "bool", "EnvVar.spec.containers.env.value", "string"),
        (container(args=[1]), "number", "Container.spec.containers.args", "string"),
        (container(args="x"), "string", "Container.spec.containers.args", "[]string"),
        (container(env={}), "object", "Container.spec.containers.env", "[]v1.EnvVar"),
        (container(resources={"limits": 1}), "number", "ResourceRequirements.spec.containers.resources.limits",
         "v1.ResourceList"),
        (pod("x"), "string", "PodSpec.spec.containers", "[]v1.Container"),
        (pod(["x"]), "string", "PodSpec.spec.containers", "v1.Container"),
        ({**pod(), "spec": 5}, "number", "Pod.spec", "v1.PodSpec"),
        ({**pod(), "spec": []}, "array", "Pod.spec", "v1.PodSpec"),
        ({**pod(), "metadata": {"name": 5}}, "number", "ObjectMeta.metadata.name", "string"),
        ({**pod(), "metadata": {"labels": {"a": 1}}}, "number", "ObjectMeta.metadata.labels", "string"),
        (pod(restartPolicy=1), "number", "PodSpec.spec.restartPolicy", "v1.RestartPolicy"),
        (pod(volumes=[{"name": "v", "emptyDir": 1}]), "number", "Volume.spec.volumes.emptyDir",
         "v1.EmptyDirVolumeSource"),
        (container(resources={"limits": {EPC: []}}), "array",
         "ResourceRequirements.spec.containers.resources.limits", "resource.Quantity"),
        (pod(terminationGracePeriodSeconds="1"), "string", "PodSpec.spec.terminationGracePeriodSeconds", "int64"),
        (job(backoffLimit=1.5), "number 1.5", "JobSpec.spec.backoffLimit", "int32"),
        (job(backoffLimit=2**31), "number 2147483648", "JobSpec.spec.backoffLimit", "int32"),
    ],
)  # fmt: skip
def test_wrong_types_die_at_decoding(document, shown, field, wanted):
    error = refused(document)
    assert error.error_code == "wrong-type"
    for part in (document["kind"], f" {shown} ", f" {field} ", f" {wanted}"):
        assert part in error.what


IN_CONTAINER = "spec.containers[0]"
LIMITS = f"{IN_CONTAINER}.resources.limits"
A_MOUNT = {"name": "v", "mountPath": "/v"}
A_VOLUME = {"name": "v", "emptyDir": {}}


@pytest.mark.parametrize(
    ("document", "path", "code"),
    [
        (container(resources={"limits": {EPC: "1500m"}}), f"{LIMITS}[{EPC}]", "quantity-not-an-integer"),
        (container(resources={"limits": {EPC: -1}}), f"{LIMITS}[{EPC}]", "negative-quantity"),
        (container(resources={"limits": {EPC: 10}, "requests": {EPC: 5}}), f"{IN_CONTAINER}.resources.requests",
         "request-differs-from-limit"),
        (container(resources={"requests": {EPC: 5}}), LIMITS, "limit-missing"),
        (container(resources={"limits": {"cpu": 1}, "requests": {"cpu": 2}}), f"{IN_CONTAINER}.resources.requests",
         "request-above-limit"),
        (container(resources={"limits": {"epc": 1}}), f"{LIMITS}[epc]", "resource-name-invalid"),
        (job({"containers": [{"name": "c", "image": "i"}]}), "spec.template.spec.restartPolicy", "job-restarts-always"),
        (container(imagePullPolicy="Sometimes"), f"{IN_CONTAINER}.imagePullPolicy", "value-not-supported"),
        (pod(restartPolicy="Maybe"), "spec.restartPolicy", "value-not-supported"),
        (pod([]), "spec.containers", "field-required"),
        ({**pod(), "spec": None}, "spec.containers", "field-required"),
        (pod([{"name": "c"}]), f"{IN_CONTAINER}.image", "field-required"),
        (pod([{"name": "c", "image": "i"}] * 2), "spec.containers[1].name", "duplicate-name"),
        (pod(volumes=[A_VOLUME] * 2), "spec.volumes[1].name", "duplicate-name"),
        (container(volumeMounts=[A_MOUNT]), f"{IN_CONTAINER}.volumeMounts[0].name", "volume-not-found"),
        (pod([{"name": "c", "image": "i", "volumeMounts": [A_MOUNT] * 2}], volumes=[A_VOLUME]),
         f"{IN_CONTAINER}.volumeMounts[1].mountPath", "duplicate-mount-path"),
        (container(volumeMounts=[{"name": ""}]), f"{IN_CONTAINER}.volumeMounts[0].name", "field-required"),
        (container(env=[{"value": "x"}]), f"{IN_CONTAINER}.env[0].name", "field-required"),
        (container(env=[{"name": "A=B"}]), f"{IN_CONTAINER}.env[0].name", "variable-name-invalid"),
        (container(env=[{"name": "A", "value": "x\0y"}]), f"{IN_CONTAINER}.env[0].value", "nul-in-value"),
        (pod([{"image": "i"}]), f"{IN_CONTAINER}.name", "field-required"),
        (pod([{"name": "C_1", "image": "i"}]), f"{IN_CONTAINER}.name", "not-a-label"),
        (pod([{"name": "c" * 64, "image": "i"}]), f"{IN_CONTAINER}.name", "name-too-long"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]), "spec.volumes[0].hostPath.path",
         "path-goes-up"),
        (pod(volumes=[{**A_VOLUME, "hostPath": {"path": "/a"}}]), "spec.volumes[0].hostPath", "several-volume-types"),
        (pod(volumes=[{"name": "v", "hostPath": {}}]), "spec.volumes[0].hostPath.path", "field-required"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/a", "type": "Door"}}]), "spec.volumes[0].hostPath.type",
         "value-not-supported"),
        (pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds", "negative-number"),
        (job(backoffLimit=-1), "spec.backoffLimit", "negative-number"),
        ({**pod(), "metadata": {}}, "metadata.name", "object-name-required"),
        *(({**pod(), "metadata": {"name": name}}, "metadata.name", "not-a-subdomain")
          for name in ("Sgx", "-a", "a_b", "a.")),
        ({**pod(), "metadata": {"name": "x" * 64}}, "metadata.name", "name-too-long"),
    ],
)  # fmt: skip
def test_what_validation_refuses(document, path, code):
    error = refused(document)
    assert error.error_code == code
    assert f"{path}: " in error.what


def test_several_faults_are_listed_together():
    error = refused(pod([{"name": "C_1"}]))
    assert error.error_code == "not-a-label"
    assert all(f"{IN_CONTAINER}.{field}: " in error.what for field in ("name", "image"))


def test_fields_without_effect_are_named_with_their_paths():
    document = job(
        {
            "containers": [
                {"name": "c", "image": "i", "livenessProbe": {}, "env": [{"name": "A", "valueFrom": {}}],
                 "resources": {"limits": {"cpu": "500m", EPC: "10Mi"}}},
            ],
            "restartPolicy": "Never", "affinity": {"nodeAffinity": {}}, "volumes": [{"name": "v", "configMap": {}}],
        },
        completions=3,
    )  # fmt: skip
    _, warnings = parse_manifests(json.dumps(document))
    spec = "spec.template.spec"
    assert sorted(warning.split()[2] for warning in warnings) == sorted([
        f"{spec}.affinity", f"{spec}.containers[0].livenessProbe", f"{spec}.containers[0].env[0].valueFrom",
        f"{spec}.volumes[0].configMap", f"{spec}.volumes[0]", f"{spec}.containers[0].resources.limits[cpu]",
        f"{spec}.containers[0].resources.limits[{EPC}]", "spec.completions",
    ])  # fmt: skip
    assert "10,485,760" in "".join(warnings)


def test_several_documents_and_null_fields():
    text = f"---\n{yaml.safe_dump(job())}---\n---\n{yaml.safe_dump(pod(volumes=None))}"
    (first, second), warnings = parse_manifests(text)
    assert isinstance(first, Job)
    assert isinstance(second, Pod)
    assert second.spec.restart_policy is RestartPolicy.ALWAYS
    assert warnings == ()


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("", "manifest-empty", ""),
        ("- a\n- b", "manifest-not-an-object", ""),
        ("a: b: c", "manifest-not-yaml", "line 1"),
        ('a: b\nc: "\\ud800"', "manifest-not-yaml", "line 2"),
        ('"\\udc80": b', "manifest-not-yaml", "line 1"),
        ("kind: Pod\nkind: Job", "manifest-not-yaml", 'line 2: key "kind"'),
        ("a: &x [1]\nb: *x", "manifest-not-yaml", "line 2"),
        ("x" * (MAX_MANIFEST_BYTES + 1), "manifest-too-long", ""),
        ("[" * 100_000, "manifest-too-deep", ""),
        ("a: !!python/object/apply:os.system ['true']", "manifest-not-yaml", "line 1"),
        ("apiVersion: apps/v1\nkind: Deployment", "kind-unknown", '"Deployment" in version "apps/v1"'),
        ("apiVersion: [1]\nkind: {}", "kind-unknown", ""),
        ("a: " + "9" * 5000, "manifest-not-yaml", ""),
    ],
)
def test_text_that_is_no_manifest(text, code, part):
    error = refused(text)
    assert error.error_code == code
    assert part in error.what


def test_dates_and_yes_are_what_kubernetes_tools_make_of_them():
    (manifest,), _ = parse_manifests(yaml.safe_dump(container(args=["x"])).replace("- x", "- 2020-01-01"))
    assert manifest.spec.containers[0].args == ("2020-01-01",)
    assert "bool" in refused(yaml.safe_dump(container(args=["x"])).replace("- x", "- yes")).what


@pytest.mark.parametrize("name", ["job.yaml", "job-holding.yaml", "job-large.yaml"])
def test_the_examples_are_accepted_without_a_warning(name):
    (manifest,), warnings = parse_manifests((examples_folder() / name).read_text())
    assert warnings == ()
    assert manifest.spec.template.spec.requests == {EPC: 160 if "large" in name else 10}


def test_the_example_deployment_holds_the_same_pod():
    document = yaml.safe_load((examples_folder() / "deployment.yaml").read_text())
    (built,), warnings = parse_manifests(json.dumps({**pod(), "spec": document["spec"]["template"]["spec"]}))
    assert built.spec.requests == {EPC: 10}
    assert warnings == ()


def test_the_examples_folder_is_the_repositorys():
    assert examples_folder().resolve() == ROOT / "examples"


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


CONTAINER = ("spec", "containers", 0)
PLACES = [
    ("spec",),
    ("metadata",),
    ("spec", "containers"),
    ("spec", "volumes"),
    ("spec", "restartPolicy"),
    ("spec", "volumes", 0, "hostPath"),
    CONTAINER,
    *((*CONTAINER, field) for field in ("env", "resources", "volumeMounts", "args", "name")),
    (*CONTAINER, "resources", "limits"),
]


@given(path=st.sampled_from(PLACES), tree=trees)
def test_no_value_anywhere_brings_anything_but_our_errors(path, tree):
    document = pod(
        [{"name": "c", "image": "i", "env": [], "resources": {"limits": {EPC: 1}}, "volumeMounts": []}],
        volumes=[{"name": "v", "hostPath": {"path": "/x"}}],
    )
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = tree
    with contextlib.suppress(ConfcomError):
        parse_manifests(json.dumps(document))


@settings(max_examples=50)
@given(st.text(alphabet=string.printable, max_size=60))
def test_no_text_brings_anything_but_our_errors(text):
    with contextlib.suppress(ConfcomError):
        parse_manifests(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("+3", 3), ("-2", -2), ("1500m", Fraction(3, 2)), ("10Mi", 10 * 2**20), ("2k", 2000), ("1e3", 1000),
        ("1E2", 100), ("1E", 10**18), ("0.5", Fraction(1, 2)), (".5", Fraction(1, 2)),
        ("5n", Fraction(5, 10**9)), ("1Ei", 2**60),
    ],
)  # fmt: skip
def test_quantities(text, value):
    assert Quantity.parse(text).value == value


@pytest.mark.parametrize(("text", "shown"), [("0.5", "500m"), ("1.0001", "1000100u"), ("1e-9", "1n"), ("10Mi", "10Mi")])
def test_fractions_are_shown_in_units_of_which_they_are_whole_numbers(text, shown):
    assert str(Quantity.parse(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "ten", "1 0", "1KB", "1e999999999", "9" * 41, "1.2.3", ".", "--1", "0x10", "1Mi2", "\u0661"]
)
def test_what_is_no_quantity(text):
    assert refused(container(resources={"limits": {EPC: text}})).error_code == "not-a-quantity"


def test_a_pull_policy_is_taken_without_a_warning():
    _, warnings = parse_manifests(json.dumps(container(imagePullPolicy="IfNotPresent")))
    assert warnings == ()


def test_a_pair_of_surrogates_as_json_writes_it_is_one_character(manifest):
    text = manifest("Pod", env=[("FACE", "\U0001f600")])
    assert "ud83d" in text
    ((parsed,), _) = parse_manifests(text)
    assert parsed.spec.containers[0].env[0].value == "\U0001f600"

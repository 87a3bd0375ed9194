import contextlib
import json
import string
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.errors import ConfcomError
from confcom.playground.api.errors import ManifestError
from confcom.playground.manifests.documents import MAX_MANIFEST_BYTES
from confcom.playground.manifests.examples_folder import examples_folder
from confcom.playground.manifests.manifest import JobManifest, PodManifest, RestartPolicy, parse_manifests
from confcom.playground.manifests.quantity import NOT_A_QUANTITY, parse_quantity

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


def refused(text):
    with pytest.raises(ManifestError) as caught:
        parse_manifests(text)
    return caught.value


def test_the_unquoted_variable_is_refused_in_the_api_servers_words():
    error = refused(SEED_JOB)
    assert error.what == (
        'Job in version "v1" cannot be handled as a Job: json: cannot unmarshal number into Go struct field '
        "EnvVar.spec.template.spec.containers.env.value of type string"
    )
    assert "in quotes" in error.remedy


def test_the_corrected_job_is_read_as_it_stands():
    (job,), warnings = parse_manifests(SEED_JOB.replace("value: 1", 'value: "1"'))
    assert isinstance(job, JobManifest)
    assert (job.name, job.backoff_limit, job.spec.restart_policy) == ("sgx-test", 6, RestartPolicy.NEVER)
    (container,) = job.spec.containers
    assert container.resources == {EPC: 10} == job.spec.requests
    assert [(v.name, v.value) for v in container.env] == [("SGX_AESM_ADDR", "1")]
    assert [(m.name, m.mount_path, m.read_only) for m in container.volume_mounts] == [
        ("var-run-aesmd", "/var/run/aesmd", False)
    ]
    assert [(v.name, v.host_path) for v in job.spec.volumes] == [("var-run-aesmd", "/var/run/aesmd")]
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


CANNOT = '{0} in version "v1" cannot be handled as a {0}: '
UNMARSHAL = "json: cannot unmarshal {} into Go struct field {} of type {}"


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
        (pod(terminationGracePeriodSeconds="1"), "string", "PodSpec.spec.terminationGracePeriodSeconds", "int64"),
        (job(backoffLimit=1.5), "number 1.5", "JobSpec.spec.backoffLimit", "int32"),
        (job(backoffLimit=2**31), "number 2147483648", "JobSpec.spec.backoffLimit", "int32"),
    ],
)  # fmt: skip
def test_wrong_types_die_at_decoding(document, shown, field, wanted):
    what = CANNOT.format(document["kind"]) + UNMARSHAL.format(shown, field, wanted)
    assert refused(json.dumps(document)).what == what


def test_a_quantity_that_is_none_dies_at_decoding():
    error = refused(json.dumps(container(resources={"limits": {EPC: "ten"}})))
    assert error.what == CANNOT.format("Pod") + NOT_A_QUANTITY


LIMITS = f"spec.containers[0].resources.limits[{EPC}]: "
NOT_NEGATIVE = "must be greater than or equal to 0"


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (container(resources={"limits": {EPC: "1500m"}}), LIMITS + "Invalid value: 1500m: must be an integer"),
        (container(resources={"limits": {EPC: -1}}), LIMITS + f'Invalid value: "-1": {NOT_NEGATIVE}'),
        (
            container(resources={"limits": {EPC: 10}, "requests": {EPC: 5}}),
            f'spec.containers[0].resources.requests: Invalid value: "5": must be equal to {EPC} limit of 10',
        ),
        (
            container(resources={"requests": {EPC: 5}}),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            container(resources={"limits": {"cpu": 1}, "requests": {"cpu": 2}}),
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (container(resources={"limits": {"epc": 1}}), None),
        (
            job({"containers": [{"name": "c", "image": "i"}]}),
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            container(imagePullPolicy="Sometimes"),
            (
                'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ),
        ),
        (
            pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
        ),
        (pod([]), "spec.containers: Required value"),
        (pod([{"name": "c"}]), "spec.containers[0].image: Required value"),
        (pod([{"name": "c", "image": "i"}] * 2), 'spec.containers[1].name: Duplicate value: "c"'),
        (
            container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (container(volumeMounts=[{"name": ""}]), None),
        (container(env=[{"value": "x"}]), "spec.containers[0].env[0].name: Required value"),
        (container(env=[{"name": "A=B"}]), None),
        (pod([{"image": "i"}]), "spec.containers[0].name: Required value"),
        (
            pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            pod(volumes=[{"name": "v", "hostPath": {"path": "/a"}, "emptyDir": {}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (pod(volumes=[{"name": "v", "hostPath": {}}]), "spec.volumes[0].hostPath.path: Required value"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/a", "type": "Door"}}]), None),
        (pod(terminationGracePeriodSeconds=-1), None),
        (job(backoffLimit=-1), f"spec.backoffLimit: Invalid value: -1: {NOT_NEGATIVE}"),
    ],
)
def test_what_validation_refuses(document, what):
    named = 'Pod "p" is invalid: ' if document["kind"] == "Pod" else 'Job.batch "j" is invalid: '
    error = refused(json.dumps(document))
    assert error.what.startswith(named)
    if what is not None:
        assert error.what == named + what


def test_a_name_is_required():
    error = refused(json.dumps({**pod(), "metadata": {}}))
    assert error.what == 'Pod "" is invalid: metadata.name: Required value: name or generateName is required'


def test_several_faults_are_listed_together():
    error = refused(json.dumps(pod([{"name": "C_1"}])))
    assert error.what.startswith(
        'Pod "p" is invalid: [spec.containers[0].name: Invalid value: "C_1": a lowercase RFC 1123'
    )
    assert error.what.endswith("spec.containers[0].image: Required value]")


@pytest.mark.parametrize("name", ["Sgx", "-a", "a_b", "a.", "x" * 64])
def test_names_follow_rfc_1123(name):
    assert f'metadata.name: Invalid value: "{name}"' in refused(json.dumps({**pod(), "metadata": {"name": name}})).what


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
    text = "\n".join(warnings)
    assert len(warnings) == 8
    for path in (
        "spec.template.spec.affinity is not", "spec.template.spec.containers[0].livenessProbe is not",
        "spec.template.spec.containers[0].env[0].valueFrom is not", "spec.template.spec.volumes[0].configMap is not",
        "spec.template.spec.volumes[0] becomes an empty directory", "limits[cpu] has no effect",
        "10,485,760 units of 1 MiB", "spec.completions is 3",
    ):  # fmt: skip
        assert path in text


def test_several_documents_and_null_fields():
    text = f"---\n{yaml.safe_dump(job())}---\n---\n{yaml.safe_dump(pod(volumes=None))}"
    (first, second), warnings = parse_manifests(text)
    assert isinstance(first, JobManifest)
    assert isinstance(second, PodManifest)
    assert second.spec.restart_policy is RestartPolicy.ALWAYS
    assert warnings == ()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no objects passed"),
        ("- a\n- b", "not an object"),
        ("a: b: c", "error converting YAML to JSON: yaml: line 1"),
        ('a: b\nc: "\\ud800"', "yaml: line 2: found invalid Unicode character escape code"),
        ('"\\udc80": b', "found invalid Unicode character escape code"),
        ("kind: Pod\nkind: Job", 'line 2: key "kind" already set in map'),
        ("a: &x [1]\nb: *x", "aliases"),
        ("x" * (MAX_MANIFEST_BYTES + 1), "bytes"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("apiVersion: apps/v1\nkind: Deployment", 'no matches for kind "Deployment" in version "apps/v1"'),
        ("apiVersion: [1]\nkind: {}", "no matches for kind"),
        ("a: " + "9" * 5000, "error converting"),
    ],
)
def test_text_that_is_no_manifest(text, part):
    assert part in refused(text).what


def test_dates_and_yes_are_what_kubernetes_tools_make_of_them():
    (manifest,), _ = parse_manifests(yaml.safe_dump(container(args=["x"])).replace("- x", "- 2020-01-01"))
    assert manifest.spec.containers[0].args == ("2020-01-01",)
    assert "bool" in refused(yaml.safe_dump(container(args=["x"])).replace("- x", "- yes")).what


@pytest.mark.parametrize("name", ["job.yaml", "job-holding.yaml", "job-large.yaml"])
def test_the_examples_are_accepted_without_a_warning(name):
    (manifest,), warnings = parse_manifests((examples_folder() / name).read_text())
    assert warnings == ()
    assert manifest.spec.requests == {EPC: 160 if "large" in name else 10}


def test_the_example_deployment_holds_the_same_pod():
    document = yaml.safe_load((examples_folder() / "deployment.yaml").read_text())
    spec = document["spec"]["template"]["spec"]
    (built,), warnings = parse_manifests(json.dumps({**pod(), "spec": spec}))
    assert built.spec.requests == {EPC: 10}
    assert warnings == ()


def test_the_examples_folder_is_the_repositorys():
    assert examples_folder().resolve() == Path(__file__).resolve().parents[2] / "examples"


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
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "ten", "1 0", "1KB", "1e999999999", "9" * 41, "1.2.3", ".", "--1", "0x10", "1Mi2", "\u0661"]
)
def test_what_is_no_quantity(text):
    with pytest.raises(ValueError, match="quantities must match"):
        parse_quantity(text)


def test_a_pull_policy_is_taken_without_a_warning():
    document = container(imagePullPolicy="IfNotPresent")
    _, warnings = parse_manifests(document if isinstance(document, str) else json.dumps(document))
    assert warnings == ()


def test_a_pair_of_surrogates_as_json_writes_it_is_one_character(manifest):
    text = manifest("Pod", env=[("FACE", "\U0001f600")])
    assert "ud83d" in text
    ((parsed,), _) = parse_manifests(text)
    assert parsed.spec.containers[0].env[0].value == "\U0001f600"

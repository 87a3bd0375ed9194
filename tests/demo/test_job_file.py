import pytest
import yaml

from confcom.demo.job_file import Job, JobFileError, example, read_job
from testkit.documentation import ROOT
from testkit.expected_errors import raises
from tests.demo.conftest import mount

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
IMAGE = "registry.test/confcom/sample-workload:0.1.0"
AESMD = mount("/var/run/aesmd", "/var/run/aesmd")


@pytest.fixture
def change(tmp_path):
    """Reads examples/job.yaml with another value at a path of keys."""

    def read(path, value):
        document = yaml.safe_load(example("job.yaml").read_text())
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
        return read_job(tmp_path / "job.yaml")

    return read


POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)


def test_the_examples_are_the_repositorys():
    assert example("job.yaml").resolve() == ROOT / "examples" / "job.yaml"
    challenge = {"SGX_AESM_ADDR": "1", "CONFCOM_CHALLENGE": "0" * 64}
    assert read_job(example("job.yaml")) == Job(
        "sgx-test", "sgxtest", IMAGE, env=challenge, limits={EPC: 10}, mounts=(AESMD,)
    )
    holding, large = (read_job(example(f"job-{name}.yaml")) for name in ("holding", "large"))
    assert (holding.args, holding.limits, large.limits) == (("--hold", "3600"), {EPC: 10}, {EPC: 160})


@pytest.mark.parametrize(
    ("path", "value", "field", "read"),
    [
        (("metadata", "name"), "mine", "name", "mine"),
        ((*CONTAINER, "name"), "mine", "container", "mine"),
        ((*CONTAINER, "image"), "other:1", "image", "other:1"),
        ((*CONTAINER, "command"), ["/bin/sh", "-c", "A=1"], "command", ("/bin/sh", "-c", "A=1")),
        ((*CONTAINER, "args"), ["--enclave", "x"], "args", ("--enclave", "x")),
        ((*CONTAINER, "env", 0, "value"), "0", "env", {"SGX_AESM_ADDR": "0", "CONFCOM_CHALLENGE": "0" * 64}),
        ((*CONTAINER, "env"), [], "env", {}),
        ((*CONTAINER, "resources", "limits", EPC), 25, "limits", {EPC: 25}),
        ((*CONTAINER, "resources", "limits"), {}, "limits", {}),
        (
            (*CONTAINER, "volumeMounts", 0, "readOnly"),
            True,
            "mounts",
            (mount(*["/var/run/aesmd"] * 2, read_only=True),),
        ),
        ((*CONTAINER, "volumeMounts", 0, "mountPath"), "/a", "mounts", (mount("/a", "/var/run/aesmd"),)),
        ((*POD, "volumes", 0, "hostPath", "path"), "/b", "mounts", (mount("/var/run/aesmd", "/b"),)),
        ((*CONTAINER, "volumeMounts"), [], "mounts", ()),
    ],
)
def test_a_change_of_the_file_changes_the_job(change, path, value, field, read):
    assert getattr(change(path, value), field) == read


UNKNOWN = [
    ("status",),
    ("metadata", "labels"),
    ("spec", "backoffLimit"),
    ("spec", "template", "metadata"),
    (*POD, "nodeName"),
    (*CONTAINER, "workingDir"),
    (*CONTAINER, "env", 0, "valueFrom"),
    (*CONTAINER, "resources", "requests"),
    (*CONTAINER, "volumeMounts", 0, "subPath"),
    (*POD, "volumes", 0, "emptyDir"),
    (*POD, "volumes", 0, "hostPath", "type"),
]


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda path: path[-1])
def test_an_unknown_field_is_an_error_that_names_it(change, path):
    with pytest.raises(JobFileError) as caught:
        change(path, "x")
    assert f"`{path[-1]}`" in caught.value.why
    assert caught.value.remedy


UNUSABLE = {
    "version": (("apiVersion",), "v1"),
    "kind": (("kind",), "Pod"),
    "no-metadata": (("metadata",), None),
    "name": (("metadata", "name"), "Mine"),
    "long-name": (("metadata", "name"), "a" * 64),
    "spec": (("spec",), []),
    "restarts": ((*POD, "restartPolicy"), "OnFailure"),
    "two-containers": ((*POD, "containers"), [{}, {}]),
    "no-image": ((*CONTAINER, "image"), None),
    "program": ((*CONTAINER, "command"), ["A=B"]),
    "text-for-list": ((*CONTAINER, "args"), "--hold"),
    "number-as-argument": ((*CONTAINER, "args"), [1]),
    "number-as-variable": ((*CONTAINER, "env", 0, "value"), 1),
    "nul": ((*CONTAINER, "env", 0, "value"), "a\0"),
    "reference": ((*CONTAINER, "env", 0, "value"), "$(HOME)"),
    "variable": ((*CONTAINER, "env", 0, "name"), "A=B"),
    "amount-as-text": ((*CONTAINER, "resources", "limits", EPC), "25"),
    "negative": ((*CONTAINER, "resources", "limits", EPC), -1),
    "fraction": ((*CONTAINER, "resources", "limits", EPC), 1.5),
    "not-a-resource": ((*CONTAINER, "resources", "limits", "cpu"), 1),
    "limits": ((*CONTAINER, "resources", "limits"), 10),
    "no-volume": ((*CONTAINER, "volumeMounts", 0, "name"), "other"),
    "relative": ((*CONTAINER, "volumeMounts", 0, "mountPath"), "a"),
    "root": ((*CONTAINER, "volumeMounts", 0, "mountPath"), "/"),
    "upwards": ((*POD, "volumes", 0, "hostPath", "path"), "/a/../../b"),
    "read-only": ((*CONTAINER, "volumeMounts", 0, "readOnly"), "yes"),
}


@pytest.mark.parametrize(("path", "value"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_value_that_cannot_be_used_is_an_error(change, path, value):
    with raises("job-file-unusable", JobFileError):
        change(path, value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"a: &a [*a, *a]\nb: 1", b"", None], ids=range(5))
def test_a_file_that_is_no_job_is_an_error(tmp_path, content):
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobFileError):
        read_job(path)

import base64
import json
import tarfile

import httpx2
import pytest

from confcom.addon.api import MAX_DOWNLOAD
from confcom.cli.failures import explain_unexpected_failures
from confcom.errors import ExitCode
from confcom.sysdump import archive
from confcom.sysdump.archive import MAX_FILE, NOT_READ
from confcom.sysdump.selection import MAX_PODS
from testkit import cluster_objects as make
from testkit.cluster_objects import SYSTEM

PLANTED = {
    name: f"planted-{number}-{name}"
    for number, name in enumerate(
        ("seed", "token", "user", "password", "login", "record", "variable", "added", "qcnl", "header", "applied")
    )
}
QE_ID = "5ec4e70fdeadbeef5ec4e70fdeadbeef"
PROXY = f"http://{PLANTED['user']}:{PLANTED['password']}@proxy.test:3128"
QCNL = {"pccs_url": "https://pccs.test/", "x": PLANTED["qcnl"], "custom_request_options": {"h": PLANTED["header"]}}


def read(path):
    with tarfile.open(path) as packed:
        return {one.name.partition("/")[2]: packed.extractfile(one).read().decode() for one in packed}


def pods(cluster, component):
    return [
        one
        for one in cluster.api.find("Pod", None, SYSTEM)
        if one["metadata"]["name"].startswith(f"confcom-{component}")
    ]


def secret(name, **values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {"owner": "helm"}},
        "data": data,
    }


@pytest.fixture
def planted(enabled):
    """A cluster with a secret in each place where secrets are."""
    api, values = enabled.api, {"quoteHelper": {"collateral": {"proxy": {"https": PROXY}, "custom": QCNL}}}
    api.put(secret("confcom-simulated-root", seed=PLANTED["seed"]))
    api.put(secret("sh.helm.release.v1.confcom.v1", release=PLANTED["record"]))
    api.put(secret("registry-login", **{".dockerconfigjson": PLANTED["login"]}))
    tenant = make.pod("tenant", on="a", limits={make.EPC: 1})
    tenant["spec"]["containers"][0]["env"] = [{"name": "X", "value": PLANTED["variable"]}]
    api.put(tenant)
    enabled.helm.revisions[-1]["values"] = values
    (helper,) = pods(enabled, "quote-helper")
    name, running = helper["metadata"]["name"], {"running": {"startedAt": make.STARTED}}
    ended = {"terminated": {"exitCode": 1, "message": f"qeid={QE_ID}"}}
    helper["spec"]["containers"][0]["env"] = [
        {"name": "ADDED", "value": PLANTED["added"]},
        {"name": "https_proxy", "value": PROXY},
    ]
    applied = json.dumps(PLANTED["applied"])
    helper["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": applied}
    helper["status"]["containerStatuses"] = [{"name": "main", "restartCount": 1, "state": running, "lastState": ended}]
    config = next(one for one in api.find("DaemonSet"))
    labels = config["metadata"]["labels"]
    metadata = {"name": "confcom-collateral", "namespace": SYSTEM, "labels": labels}
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"qcnl.conf": json.dumps(QCNL)}})
    api.put(make.event(name, "Failed", f"the proxy {PROXY} refuses {PLANTED['token']}: Bearer {PLANTED['token']}"))
    for one in api.find("Event"):
        one["message"] = one["message"].replace(f" {PLANTED['token']}:", "")
    log = f"GET https://pccs.test/pckcert?qeid={QE_ID} by {PROXY}\n{PLANTED['password']} token={PLANTED['token']}\n"
    api.logs |= {name: f"now\n{log}", (name, "previous"): f"before\n{log}"}
    for page in ("readyz", "metrics", "platform"):
        api.pages[name, page] = f"{page} of the helper\n"
    return enabled


def test_no_secret_is_in_the_archive_and_the_rest_is(planted, confcom, tmp_path):
    path = tmp_path / "dump.tar.gz"
    done = confcom.document("sysdump", path)
    files = read(path)
    everything = "\n".join([*files, *files.values(), json.dumps(done)])
    for name, planted_secret in {**PLANTED, "QE id": QE_ID}.items():
        assert planted_secret not in everything, name
        assert base64.b64encode(planted_secret.encode()).decode() not in everything, name
    assert path.stat().st_mode & 0o777 == 0o600
    assert done["files"] == list(files)
    assert done["bytes"] == path.stat().st_size
    assert [*tmp_path.iterdir()] == [path]
    for shown in (
        "proxy.test:3128",
        "https://pccs.test/",
        "now\n",
        "before\n",
        "platform of the helper",
        '"api_server": "v1.36.3"',
    ):
        assert shown in everything, shown
    assert json.loads(files["status.json"])["nodes"][0]["name"] == "a"
    assert {"objects/DaemonSet-confcom-quote-helper.json", "objects/ConfigMap-confcom-collateral.json"} <= files.keys()
    assert "tenant" not in "\n".join(files)


def test_what_was_not_read_is_said(planted, confcom, tmp_path):
    planted.api.denied |= {("get", "pods/log"), ("list", "events"), ("list", "clusterroles")}
    done = confcom.document("sysdump", tmp_path / "dump.tar.gz")
    files = read(tmp_path / "dump.tar.gz")
    lines = files[NOT_READ].splitlines()
    assert lines == done["not_read"]
    for name in ("events.json", "objects/ClusterRole", "main.log", "readyz.txt"):
        assert any(name in line for line in lines), name
    assert not [name for name in files if name.endswith(".log")]
    assert "status.json" not in files or json.loads(files["status.json"])
    assert "values.json" in files


def test_a_dry_run_lists_the_names_and_reads_no_log(planted, confcom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = confcom.document("sysdump", "--dry-run")
    assert not any("/log" in path for _, path in planted.api.requests)
    assert (listed["file"], [*tmp_path.iterdir()]) == (None, [])
    assert confcom.ok("sysdump", "--dry-run").stdout.splitlines()[: len(listed["files"])] == listed["files"]
    done = confcom.document("sysdump")
    (path,) = tmp_path.iterdir()
    assert path.name == done["file"] == "confcom-sysdump-20261129T090000Z.tar.gz"
    assert set(done["files"]) <= set(listed["files"])
    assert any(name.endswith("main.previous.log") for name in done["files"])


def test_nothing_in_the_cluster_is_changed(planted, confcom, tmp_path):
    before = planted.state()
    planted.api.writes.clear()
    confcom.ok("sysdump", tmp_path / "dump.tar.gz")
    assert planted.state() == before
    assert planted.api.writes == []
    assert planted.helm_changes() == ["upgrade"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_interrupted_it_leaves_no_file_and_keeps_an_older_one(planted, confcom, tmp_path, failure):
    path = tmp_path / "dump.tar.gz"
    path.write_text("older")

    def end(request):
        if request.url.path.endswith("/log"):
            raise failure
        return False

    planted.api.refuse(end, 500, "")
    if failure is KeyboardInterrupt:
        assert confcom("sysdump", path).exit_code == ExitCode.INTERRUPTED
    else:
        with pytest.raises(failure):
            confcom("sysdump", path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "older"


@pytest.mark.parametrize("name", ["no/such/folder.tar.gz", "."])
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_read(planted, confcom, tmp_path, name):
    planted.api.requests.clear()
    confcom.error(ExitCode.FAILED, "sysdump-not-written", "sysdump", tmp_path / name)
    assert planted.api.requests == []


def test_without_the_add_on_it_says_so(confcom, tmp_path):
    confcom.ok("sysdump", tmp_path / "dump.tar.gz")
    assert json.loads(read(tmp_path / "dump.tar.gz")["status.json"])["enabled"] is False


def test_the_reason_of_a_daemon_that_is_not_ready_is_read(planted, confcom, tmp_path):
    planted.api.refuse(lambda request: request.url.path.endswith("/readyz"), 503, "not ready: no quote yet", plain=True)
    confcom.ok("sysdump", tmp_path / "dump.tar.gz")
    pages = [text for name, text in read(tmp_path / "dump.tar.gz").items() if name.endswith("readyz.txt")]
    assert pages
    assert set(pages) == {"not ready: no quote yet"}


def test_hostile_sizes_are_bounded(planted, confcom, tmp_path, monkeypatch):
    """A log is cut, large pages are given up, and of many Pods few are read."""
    most = 5 << 20
    monkeypatch.setattr(archive, "MAX_BYTES", most)
    api = planted.api
    (helper,) = pods(planted, "quote-helper")
    name = helper["metadata"]["name"]
    for number in range(2 * MAX_PODS):
        copied = json.loads(json.dumps(helper))
        copied["metadata"] |= {"name": f"z{number}"}
        api.put(copied)
        api.logs[f"z{number}"] = "x y z\n" * (MAX_FILE // 6)
    api.logs[name] = "".join(f"{number:020}{' of the log' * 18}\n" for number in range(2 * MAX_FILE // 219))
    api.pages[name, "metrics"] = "x" * (MAX_FILE + 1)
    answer, sent = api.handle_request, []

    def endless():
        while True:
            sent.append(MAX_FILE)
            yield bytes(MAX_FILE)

    class Endless(httpx2.SyncByteStream):
        def __iter__(self):
            return endless()

    def handle(request):
        if request.url.path.endswith(f"{name}:8080/proxy/platform"):
            return httpx2.Response(200, stream=Endless(), request=request)
        return answer(request)

    api.handle_request = handle
    done = confcom.document("sysdump", tmp_path / "dump.tar.gz")
    files = read(tmp_path / "dump.tar.gz")
    assert sum(map(len, files.values())) <= most + len(files[NOT_READ])
    assert max(map(len, files.values())) <= MAX_FILE
    assert sum(sent) <= MAX_DOWNLOAD + 2 * MAX_FILE
    log = files[f"pods/{name}/main.log"].splitlines()
    assert {len(line) for line in log} == {218}
    assert not [one for one in files if one.endswith(f"{name}/platform.json")]
    assert len({one.split("/")[1] for one in files if one.startswith("pods/z")}) < MAX_PODS
    for words in ("platform.json", "metrics.txt", f"{MAX_PODS + 1} more", "all but the last"):
        assert any(words in line for line in done["not_read"]), words


def test_a_bug_of_ours_names_the_command(capsys):
    with pytest.raises(SystemExit), explain_unexpected_failures([]):
        raise ZeroDivisionError
    assert "confcom sysdump" in capsys.readouterr().err

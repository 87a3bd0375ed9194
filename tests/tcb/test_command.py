"""`confcom tcb` on a cluster in memory, with services, files and quotes."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from confcom.quote_provider.export import export_platform
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.platform_page import CertifiedTcb, PlatformPage, SgxKind
from confcom.sgx.quote import Quote
from confcom.sgx.tee_type import TeeType
from confcom.simulated_pcs.answers import answer
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.simulated_collateral import create_evaluation_numbers
from confcom.tcb.groups import MAX_KINDS
from confcom.verify import read_collateral
from testkit import cluster_objects as make
from testkit.collateral_service import send, serving
from testkit.verify.genuine_quotes import TIMES, VECTORS
from testkit.verify.td_lab import TdxLab
from testkit.verify.verify_lab import NOW, Lab
from tests.tcb.conftest import PLATFORM, SINCE, Pages

SHORT = [
    {"part": "component 1", "has": 2, "needs": 3, "category": "BIOS", "type": "Early Microcode Update"},
    {"part": "component 2", "has": 2, "needs": 3, "category": "OS/VMM", "type": "SGX Late Microcode Update"},
]


def statuses(found):
    return [(one["names"], (one["standard"] or {}).get("status"), (one["early"] or {}).get("status")) for one in found]


def failures(found):
    return {one["name"]: one["error"]["code"] for one in found["failed"]}


def test_nodes_with_equal_svns_are_one_group(cluster):
    found = cluster.judged()
    assert (found["ok"], statuses(found["groups"])) == (True, [(["a", "b"], "UpToDate", "UpToDate")])
    svns = (*cluster.tcb.components[:3], 5, *cluster.tcb.components[4:])
    cluster.serve("b", replace(cluster.tcb, components=svns))
    assert [one["names"] for one in cluster.judged()["groups"]] == [["a"], ["b"]]
    cluster.serve("b", replace(cluster.tcb, components=(0,) * 16))
    groups = cluster.judged(exit_code=8)["groups"]
    assert statuses(groups) == [(["a"], "UpToDate", "UpToDate"), (["b"], "OutOfDate", "OutOfDate")]
    assert {one["part"] for one in groups[1]["standard"]["short"]} >= {"component 1", "component 2"}


@pytest.mark.parametrize(
    ("staging", "standard", "early", "exit_codes"),
    [
        (Staging.NONE, "UpToDate", "UpToDate", (0, 0)),
        (Staging.EARLY, "UpToDate", "OutOfDate", (0, 8)),
        (Staging.OUT_OF_DATE, "OutOfDate", "OutOfDate", (8, 8)),
        (Staging.CONFIGURATION_NEEDED, "ConfigurationNeeded", "ConfigurationNeeded", (8, 8)),
        (Staging.SW_HARDENING_NEEDED, "SWHardeningNeeded", "SWHardeningNeeded", (8, 8)),
        (Staging.RELAUNCH_ADVISED, "UpToDate", "UpToDate", (0, 0)),
        (Staging.REVOKED, "Revoked", "Revoked", (8, 8)),
    ],
)
def test_every_staging_is_shown(cluster, staging, standard, early, exit_codes):
    cluster.stage(staging)
    found = [cluster.judged(*words, exit_code=code) for words, code in zip(([], ["--early"]), exit_codes, strict=True)]
    assert [statuses(one["groups"]) for one in found] == [[(["a", "b"], standard, early)]] * 2
    short = {True: SHORT, False: []}
    (group,) = found[0]["groups"]
    assert group["early"]["short"] == short[early in {"OutOfDate", "Revoked"}]
    assert group["standard"]["short"] == short[standard in {"OutOfDate", "Revoked"}]
    assert group["early"]["recovery_date"] >= group["standard"]["recovery_date"]


def test_people_read_each_short_component_and_what_raises_it(cluster):
    cluster.stage(Staging.EARLY)
    done = cluster.run("tcb", "--early")
    assert "component 1: has 2, needs 3 -> BIOS (Early Microcode Update)" in done.stdout
    assert "OutOfDate" in done.stdout
    assert "revoked" not in done.stdout.lower()


def test_expired_collateral_is_refused(cluster):
    cluster.stage(Staging.EXPIRED)
    (group,) = cluster.judged(exit_code=5)["groups"]
    assert (group["error"]["code"], group["standard"]) == ("collateral", None)


@pytest.mark.parametrize(("days", "code"), [(0, 0), (10, 0), (31, 8)])
def test_collateral_that_ends_soon_fails_on_request(cluster, days, code):
    assert cluster.judged("--fail-within", days, exit_code=code)["ok"] is (code == 0)


def test_a_pck_certificate_that_ends_soon_fails_on_request(cluster):
    cluster.serve("b", replace(cluster.tcb, not_after=datetime(2026, 12, 3, tzinfo=UTC)))
    assert cluster.judged("--fail-within", 3)["groups"][0]["pck_not_after"] == "2026-12-03T00:00:00Z"
    cluster.judged("--fail-within", 4, exit_code=8)
    cluster.judged("--at", "2026-12-04", exit_code=8)


def lie(tcb, **changes):
    return json.dumps({"version": 1, "platform": "simulated", "tcb": {**tcb, **changes}})


TCB = json.loads(PlatformPage(SgxKind.SIMULATED, CertifiedTcb.of(PLATFORM.pki.pck.certificate), SINCE).to_json())["tcb"]
LIES = {
    "no JSON": ("<html>", "platform-malformed"),
    "a list": ("[]", "wrong-member"),
    "large": ("x" * (2 << 20), "cluster-request-failed"),
    "another version": ('{"version": 2, "platform": "simulated", "tcb": null}', "platform-malformed"),
    "hardware": (PlatformPage(SgxKind.HARDWARE).to_json().decode(), "platform-differs"),
    "no quote": (PlatformPage(SgxKind.SIMULATED).to_json().decode(), "no-quote-yet"),
    "a long reason": (
        json.dumps({"version": 1, "platform": "simulated", "tcb": None, "why": "x" * 99_999}),
        "no-quote-yet",
    ),
    "a reason with escapes": (
        '{"version": 1, "platform": "simulated", "tcb": null, "why": "\\u001b[2J"}',
        "no-quote-yet",
    ),
    "few components": (lie(TCB, components=[1]), "platform-malformed"),
    "a large SVN": (lie(TCB, components=[256] * 16), "wrong-member"),
    "another CA": (lie(TCB, ca="\x1b[2J"), "platform-malformed"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_hostile_page_is_its_nodes_failure_alone(cluster, name):
    page, code = LIES[name]
    cluster.show("b", page)
    found = cluster.judged(exit_code=8)
    assert (failures(found), statuses(found["groups"])) == ({"b": code}, [(["a"], "UpToDate", "UpToDate")])
    assert len(json.dumps(found)) < 10_000
    assert all(line.isprintable() for line in cluster.run("tcb").stdout.splitlines())


@pytest.mark.parametrize("status", [301, 403, 404, 409, 422, 500, 503])
def test_a_page_with_any_status_is_its_nodes_failure_alone(cluster, status):
    cluster.api.refuse(lambda request: "quote-helper-b" in request.url.path, status, "no")
    found = cluster.judged(exit_code=8)
    assert (list(failures(found)), statuses(found["groups"])) == (["b"], [(["a"], "UpToDate", "UpToDate")])


def test_pages_cannot_ask_for_any_number_of_sets():
    liars = [f"a{number}" for number in range(MAX_KINDS + 4)]
    many = Pages(*liars, "y", "z")
    for number, name in enumerate(liars, 1):
        many.serve(name, replace(many.tcb, fmspc=number.to_bytes(6, "big")))
    groups = many.judged(exit_code=5)["groups"]
    codes = [(one["error"] or {}).get("code") for one in groups]
    assert codes.count("too-many-platform-kinds") == 5
    assert codes.count("collateral-platform") == MAX_KINDS - 1
    assert statuses(groups)[0] == (["y", "z"], "UpToDate", "UpToDate")


def test_without_a_node_nothing_is_up_to_date():
    assert Pages().judged(exit_code=8)["ok"] is False


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (lambda cluster: cluster.api.remove("Pod", "quote-helper-b"), "helper-not-ready"),
        (
            lambda cluster: cluster.api.find("Pod", "quote-helper-b")[0].update(status=make.not_ready()),
            "helper-not-ready",
        ),
        (lambda cluster: cluster.api.pages.pop(("quote-helper-b", "platform")), "cluster-request-failed"),
    ],
)
def test_a_node_that_tells_nothing_is_not_up_to_date(cluster, trouble, code):
    trouble(cluster)
    found = cluster.judged(exit_code=8)
    assert (found["ok"], failures(found)) == (False, {"b": code})


def test_many_nodes_with_one_failure_are_one_line():
    cluster = Pages()
    cluster.hardware(*(f"h{number}" for number in range(30)))
    lines = cluster.run("tcb").stdout.splitlines()
    assert len([line for line in lines if "no-quote-yet" in line]) == 1
    assert any(line.endswith("0 of 30 machines") for line in lines)


def test_during_an_update_the_ready_helper_is_asked(cluster):
    later = make.daemon("quote-helper", "b", name="new", created="2026-11-26T00:00:00Z", status=make.not_ready())
    cluster.api.put(later)
    assert cluster.judged()["ok"] is True


@pytest.mark.parametrize(
    "denied", [("get", "pods/proxy"), ("list", "daemonsets"), ("list", "pods"), ("get", "secrets")]
)
def test_few_permissions_end_it_with_the_code_of_the_cluster(cluster, denied):
    cluster.api.denied.add(denied)
    done = cluster.run("tcb", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (6, "forbidden")


def test_a_cluster_without_the_add_on_has_no_nodes_to_judge():
    cluster = Pages()
    cluster.api.objects[:] = [one for one in cluster.api.objects if one["kind"] != "DaemonSet"]
    done = cluster.run("tcb", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (8, "platform-unknown")


def test_hardware_before_its_first_quote_is_not_up_to_date(cluster):
    cluster.hardware("h")
    assert failures(cluster.judged(exit_code=8)) == {"h": "no-quote-yet"}


def test_hardware_is_judged_by_files_under_intels_root():
    cluster = Pages()
    cluster.hardware("h")
    chain = PckChain.from_quote(Quote.parse((VECTORS / "sgx_quote").read_bytes()))
    cluster.serve("h", CertifiedTcb.of(chain.leaf), SgxKind.HARDWARE)
    files = ("--collateral", VECTORS / "sgx_quote_collateral.json")
    (group,) = cluster.judged(*files, "--at", TIMES["sgx_quote"], exit_code=8)["groups"]
    assert (group["platform"], group["standard"]["status"]) == ("hardware", "ConfigurationAndSWHardeningNeeded")
    assert [one["part"] for one in group["standard"]["short"]] == ["component 7"]
    (today,) = cluster.judged(*files, exit_code=5)["groups"]
    assert (today["error"]["code"], today["standard"]) == ("collateral", None)


def test_of_two_sets_in_files_the_newer_one_is_early(cluster, tmp_path):
    words = []
    for early in (True, False):
        export_platform(PLATFORM, tmp_path / str(early), NOW, staging=Staging.EARLY, early=early)
        words += ["--collateral", tmp_path / str(early) / "collateral"]
    found = cluster.judged("--root", tmp_path / "True" / "root.pem", *words, "--early", exit_code=8)
    assert statuses(found["groups"]) == [(["a", "b"], "UpToDate", "OutOfDate")]


@pytest.mark.parametrize(
    ("damage", "code"),
    [(Path.unlink, "unreadable"), (lambda path: path.write_text(path.read_text()[:-9]), "collateral-malformed")],
)
def test_a_damaged_file_of_several_is_not_passed_over(cluster, tmp_path, damage, code):
    words = []
    for early in (True, False):
        export_platform(PLATFORM, tmp_path, NOW, staging=Staging.EARLY, early=early)
        words += ["--collateral", tmp_path / f"{early}.json"]
        words[-1].write_text(read_collateral(tmp_path / "collateral").to_json())
    damage(tmp_path / "True.json")
    (group,) = cluster.judged("--root", tmp_path / "root.pem", *words, "--early", exit_code=5)["groups"]
    assert group["error"]["code"] == code


@pytest.fixture
def exported(tmp_path):
    export_platform(PLATFORM, tmp_path, NOW)
    return tmp_path


def offline(folder):
    return ("--root", folder / "root.pem", "--collateral", folder / "collateral")


def test_a_simulated_root_in_a_file_needs_no_secret(cluster, exported):
    cluster.api.denied.add(("get", "secrets"))
    assert statuses(cluster.judged(*offline(exported))["groups"]) == [(["a", "b"], "UpToDate", None)]
    (group,) = cluster.judged(*offline(exported), "--early", exit_code=6)["groups"]
    assert group["error"]["code"] == "early-set-missing"


def pcs(staging=Staging.NONE, platform=PLATFORM, pccs=False):
    def get(handler):
        made = answer(handler.path, platform, NOW, staging, pccs=pccs)
        send(handler, made.status, made.headers, made.body)

    return get


PATHS = ("tcb", "qe/identity", "pckcrl", "rootcacrl", "tcbevaluationdatanumbers")


@pytest.fixture
def service(exported):
    """A service of the simulated root, and the options that name it."""
    get = pcs(Staging.EARLY)
    with serving(dict.fromkeys(PATHS, get)) as (served, url):
        yield served, ("--root", exported / "root.pem", "--from", url)


def test_a_service_is_asked_once_for_a_kind_of_platform(cluster, service):
    served, options = service
    found = cluster.judged(*options, "--early", exit_code=8)
    assert statuses(found["groups"]) == [(["a", "b"], "UpToDate", "OutOfDate")]
    asked = [name for name, _ in served.asked]
    assert {name: asked.count(name) for name in PATHS} == {**dict.fromkeys(PATHS[:4], 2), PATHS[4]: 1}
    assert found["groups"][0]["early"]["recovery_date"] > found["groups"][0]["standard"]["recovery_date"]


def test_a_service_that_fails_is_never_called_out_of_date(cluster, service):
    served, options = service
    served.answers["tcb"] = (404, {}, b"")
    (group,) = cluster.judged(*options, exit_code=6)["groups"]
    assert (group["error"]["code"], group["standard"]) == ("source-unknown-platform", None)
    done = cluster.run("tcb", *options)
    assert "OutOfDate" not in done.stdout


def test_without_an_early_set_only_early_fails(cluster, service):
    served, options = service
    served.answers["qe/identity"] = [pcs(Staging.EARLY), (404, {}, b"")]
    (group,) = cluster.judged(*options)["groups"]
    assert (group["standard"]["status"], group["early"], len(group["notes"])) == ("UpToDate", None, 1)
    served.answers["qe/identity"] = [pcs(Staging.EARLY), (404, {}, b"")]
    (group,) = cluster.judged(*options, "--early", exit_code=6)["groups"]
    assert group["standard"] is None


def test_without_a_list_of_sets_the_dates_are_missing_alone(cluster, service):
    served, options = service
    for broken in ((404, {}, b""), (200, {"TCB-Evaluation-Data-Numbers-Issuer-Chain": "x"}, b"{}")):
        served.answers["tcbevaluationdatanumbers"] = broken
        (group,) = cluster.judged(*options)["groups"]
        assert (group["standard"]["status"], group["standard"]["recovery_date"]) == ("UpToDate", None)
        assert len(group["notes"]) == 1


def numbers(platform=PLATFORM, now=NOW, tee=TeeType.SGX, edit=lambda body: body):
    chain = quote((platform.pki.tcb_signer.pem + platform.pki.root.pem).decode())
    body = create_evaluation_numbers(platform.pki, now, Staging.EARLY, tee)
    return 200, {"TCB-Evaluation-Data-Numbers-Issuer-Chain": chain}, edit(body)


@pytest.mark.parametrize(
    ("answer", "dated"),
    [
        (numbers(), True),
        (numbers(platform=Lab().platform), False),
        (numbers(now=NOW - timedelta(days=60)), False),
        (numbers(tee=TeeType.TDX), False),
        (numbers(edit=lambda body: body.replace(b"2026-", b"2025-", 1)), False),
    ],
    ids=["genuine", "another root", "expired", "another TEE", "forged"],
)
def test_a_list_of_sets_that_fails_a_check_gives_no_dates(cluster, service, answer, dated):
    served, options = service
    served.answers["tcbevaluationdatanumbers"] = answer
    (group,) = cluster.judged(*options)["groups"]
    assert (group["standard"]["recovery_date"] is not None, len(group["notes"])) == (dated, int(not dated))


def edited(name, old, new):
    def edit(folder):
        file = folder / name
        assert old in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(old, new, 1))

    return edit


def replaced_by(collateral):
    return lambda folder: [(folder / name).write_bytes(data) for name, data in collateral.to_files().items()]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (edited("tcb_info.json", b'"svn":2', b'"svn":1'), "collateral-signature"),
        (edited("tcb_info.json", b'"version":3', b'"version":2'), "unsupported-document"),
        (replaced_by(TdxLab(PLATFORM).collateral()), "collateral-platform"),
        (replaced_by(Lab().collateral()), "collateral-signer"),
        (lambda folder: (folder / "tcb_info.json").unlink(), "collateral-incomplete"),
    ],
)
def test_collateral_that_is_not_for_these_nodes_is_refused(cluster, exported, change, code):
    change(exported / "collateral")
    (group,) = cluster.judged(*offline(exported), exit_code=5)["groups"]
    assert (group["error"]["code"], group["standard"]) == (code, None)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("sgx_quote", "ConfigurationAndSWHardeningNeeded"),
        ("tdx_quote", "UpToDate"),
        ("tdx_quote_td15ex", "UpToDate"),
    ],
)
def test_a_genuine_quote_needs_no_cluster(cluster, name, status):
    arguments = (VECTORS / name, "--collateral", VECTORS / f"{name}_collateral.json", "--at", TIMES[name])
    (group,) = cluster.judged(*arguments, exit_code=0 if status == "UpToDate" else 8)["groups"]
    assert (group["standard"]["status"], group["platform"]) == (status, "hardware")
    assert bool(group["tdx_module_svns"]) == (group["tee"] == "TDX")
    assert cluster.logins == []
    cluster.judged(*arguments[:3], exit_code=5)


def test_quotes_of_both_tees_are_judged_by_several_files(cluster):
    names = ("sgx_quote", "tdx_quote")
    files = [word for name in names for word in ("--collateral", VECTORS / f"{name}_collateral.json")]
    found = cluster.judged(*(VECTORS / name for name in names), *files, "--at", "2025-07-01", exit_code=8)
    assert {one["tee"] for one in found["groups"]} == {"SGX", "TDX"}


@pytest.mark.parametrize(
    ("edit", "exit_code"),
    [
        (lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:], 4),
        (lambda _: Lab().quote(), 4),
        (lambda data: data[:500], 5),
        (lambda _: b"no quote", 5),
    ],
)
def test_no_svns_are_shown_of_a_quote_that_is_not_authentic(cluster, tmp_path, edit, exit_code):
    file = tmp_path / "q.bin"
    file.write_bytes(edit((VECTORS / "sgx_quote").read_bytes()))
    files = ("--collateral", VECTORS / "sgx_quote_collateral.json", "--at", TIMES["sgx_quote"])
    found = cluster.judged(file, *files, exit_code=exit_code)
    assert (found["groups"], list(failures(found))) == ([], [str(file)])
    both = cluster.judged(file, VECTORS / "sgx_quote", *files, exit_code=exit_code)
    assert [one["names"] for one in both["groups"]] == [[str(VECTORS / "sgx_quote")]]


@pytest.mark.parametrize("staging", [Staging.OUT_OF_DATE, Staging.REVOKED])
def test_a_quote_whose_level_is_low_is_authentic(cluster, tmp_path, staging):
    export_platform(PLATFORM, tmp_path, NOW, staging=staging)
    (tmp_path / "q.bin").write_bytes(Lab(PLATFORM).quote())
    given = (tmp_path / "q.bin", *offline(tmp_path), "--at", NOW.isoformat())
    (group,) = cluster.judged(*given, exit_code=8)["groups"]
    assert (group["platform"], group["standard"]["short"]) == ("simulated", SHORT)


def test_a_quote_of_a_revoked_certificate_is_not_authentic(cluster, exported):
    revoked = Lab(PLATFORM).crl(PLATFORM.pki.pck_ca, PLATFORM.pki.pck.certificate)
    (exported / "collateral" / "pck_crl.der").write_bytes(revoked)
    (exported / "q.bin").write_bytes(Lab(PLATFORM).quote())
    given = (exported / "q.bin", *offline(exported), "--at", NOW.isoformat())
    assert cluster.judged(*given, exit_code=4)["groups"] == []


def test_a_forged_quote_causes_no_fetch(cluster, service, tmp_path):
    served, options = service
    (tmp_path / "q.bin").write_bytes(Lab().quote())
    cluster.judged(tmp_path / "q.bin", *options, exit_code=4)
    assert served.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--root", "x"),
        ("--from", "intel", "--collateral", "x"),
        ("--ca", "x", "--collateral", "x"),
        ("--from", "http://h"),
        ("--at", "now"),
    ],
)
def test_contradictions_are_mistakes_of_the_command_line(cluster, arguments):
    assert cluster.run("tcb", *arguments).exit_code == 2
    assert cluster.logins == []

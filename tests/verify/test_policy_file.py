import json
import re
import tomllib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from confcom.errors import SettingsError
from confcom.verify import (
    Identity,
    Policy,
    SgxPolicy,
    TdImage,
    TdxPolicy,
    TeeType,
    UnreadableInputError,
    policy_file,
    read_platforms,
    read_policy,
    report_data,
)
from testkit.expected_errors import raises
from testkit.programs import run_confcom
from testkit.verify.td_lab import MEASURED
from testkit.verify.verify_lab import CHALLENGE, run_verify

SCHEMA = json.loads(Path(policy_file.__file__).with_name("policy.schema.json").read_text())
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "verify.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
WHOLE = f"""
mr_enclave = "{"0a" * 32}"
mr_signer = "{"0B" * 32}"
isv_prod_id = 1
min_isv_svn = 2
config_id = "{"0c" * 64}"
min_config_svn = 3
isv_ext_prod_id = "{"0d" * 16}"
isv_family_id = "{"0e" * 16}"
allow_simulated = true
allow_debug = true
accepted_tcb_statuses = ["OutOfDate"]
accepted_advisories = ["intel-sa-00615"]
rejected_advisories = ["intel-sa-00334"]
platforms = ["{bytes(16).hex()}", "{"0f" * 32}"]
min_tcb_evaluation_number = 20
platform_grace_period = "30d"
qe_grace_period = "12h"
max_collateral_age = "90m"
clock_leeway = "5m"
[[identities]]
mr_enclave = "{"01" * 32}"
[[identities]]
mr_signer = "{"02" * 32}"
isv_prod_id = 3
min_isv_svn = 4
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "policy.toml").write_text(text)
        return tmp_path / "policy.toml"

    return write


def test_a_file_has_every_argument(write):
    assert set(tomllib.loads(WHOLE)) | {"report_data"} == {field.name for field in fields(SgxPolicy)}
    jsonschema.validate(tomllib.loads(WHOLE), SCHEMA)
    document = tomllib.loads(WHOLE) | {
        "platform_grace_period": timedelta(days=30),
        "qe_grace_period": timedelta(hours=12),
        "max_collateral_age": timedelta(minutes=90),
        "clock_leeway": timedelta(minutes=5),
    }
    document["identities"] = [Identity(**one) for one in document["identities"]]
    assert read_policy(write(WHOLE)) == SgxPolicy(**document)


OF_A_TD = f"""
tee = "tdx"
mr_td = "{"0a" * 48}"
rtmr0 = "{"00" * 48}"
rtmr1 = "{"01" * 48}"
rtmr2 = "{"02" * 48}"
rtmr3 = "{"03" * 48}"
mr_seam = "{"0b" * 48}"
td_attributes = "0000000010000000"
td_attributes_mask = "00000000100000ff"
xfam = "00000000000000e7"
mr_config_id = "{"0c" * 48}"
mr_owner = "{"0d" * 48}"
mr_owner_config = "{"0e" * 48}"
"""
SHARED = WHOLE[WHOLE.index("allow_simulated") : WHOLE.index("[[")]
IMAGES = f"""
[[images]]
mr_td = "{"01" * 48}"
[[images]]
mr_td = "{"02" * 48}"
rtmr2 = "{"04" * 48}"
"""


def test_a_file_of_a_td_has_every_argument(write):
    text = OF_A_TD + SHARED + IMAGES
    document = tomllib.loads(text)
    assert set(document) - {"tee"} | {"report_data"} == {field.name for field in fields(TdxPolicy)}
    jsonschema.validate(document, SCHEMA)
    found, enclaves = read_policy(write(text), b"c", tee=TeeType.TDX), read_policy(write(WHOLE), b"c")
    assert all(getattr(found, field.name) == getattr(enclaves, field.name) for field in fields(Policy))
    assert (found.rtmr3, found.td_attributes_mask) == (b"\3" * 48, bytes.fromhex("00000000100000ff"))
    assert found.images == (TdImage(mr_td=b"\1" * 48), TdImage(mr_td=b"\2" * 48, rtmr2=b"\4" * 48))


def test_a_reader_of_one_tee_names_the_other(write):
    for text, tee in ((OF_A_TD, TeeType.SGX), (WHOLE, TeeType.TDX), ("", TeeType.TDX), ('tee = "sgx"', TeeType.TDX)):
        with raises("policy-tee", SettingsError, "why", "remedy") as caught:
            read_policy(write(text), tee=tee)
        assert f"tee=TeeType.{'TDX' if tee is TeeType.SGX else 'SGX'}" in caught.value.remedy
    assert read_policy(write('tee = "sgx"')) == SgxPolicy()
    for text, policy in (('tee = "tdx"', TdxPolicy), ("", SgxPolicy)):
        assert read_policy(write(text), b"c", tee=None) == policy.for_challenge(b"c")


def test_the_pages_examples_and_an_empty_file(write):
    for text in (EXAMPLES[0], ""):
        jsonschema.validate(tomllib.loads(text), SCHEMA)
        assert read_policy(write(text), b"c").report_data == report_data(b"c")
    assert read_policy(write("")) == SgxPolicy()
    jsonschema.validate(tomllib.loads(EXAMPLES[1]), SCHEMA)
    assert read_policy(write(EXAMPLES[1]), tee=TeeType.TDX).names_identity


WRONG = {
    "nothing = 1": "policy-name-unknown",
    'report_data = "00"': "policy-name-unknown",
    "mr_enclave = 1": "wrong-type",
    'mr_enclave = "00"': "wrong-value",
    "isv_prod_id = 65536": "wrong-value",
    'allow_debug = "yes"': "wrong-type",
    'accepted_tcb_statuses = "UpToDate"': "wrong-type",
    'accepted_tcb_statuses = ["Revoked"]': "wrong-value",
    'rejected_advisories = ["SA-1"]': "wrong-value",
    'platforms = ["00"]': "wrong-value",
    "platforms = [1]": "wrong-type",
    "min_tcb_evaluation_number = -1": "wrong-value",
    "platform_grace_period = 30": "wrong-value",
    'platform_grace_period = "30 days"': "wrong-value",
    'max_collateral_age = "9999999d"': "wrong-value",
    'clock_leeway = "6m"': "wrong-value",
    'clock_leeway = "1h"': "wrong-value",
    'accepted_advisories = "INTEL-SA-00615"': "wrong-type",
    "identities = 1": "wrong-type",
    'identities = ["x"]': "wrong-type",
    "[[identities]]\nisv_prod_id = 1": "wrong-value",
    f'[[identities]]\nmr_enclave = "{"00" * 32}"\nconfig_id = "00"': "policy-name-unknown",
    'tee = "TDX"': "wrong-value",
    "tee = 1": "wrong-type",
    f'mr_td = "{"00" * 48}"': "policy-name-unknown",
}
WRONG_OF_A_TD = {
    f'mr_enclave = "{"00" * 32}"': "policy-name-unknown",
    f'mr_td = "{"00" * 32}"': "wrong-value",
    'xfam = "e7"': "wrong-value",
    'td_attributes_mask = "00000000000000ff"': "wrong-value",
    "images = 1": "wrong-type",
    "[[images]]": "wrong-type",
    f'[[images]]\nmr_td = "{"00" * 48}"\nmr_seam = "{"00" * 48}"': "policy-name-unknown",
    "[[identities]]": "policy-name-unknown",
}


@pytest.mark.parametrize(
    ("text", "code"), [*WRONG.items(), *((f'tee = "tdx"\n{text}', code) for text, code in WRONG_OF_A_TD.items())]
)
def test_the_parser_and_the_schema_refuse_the_same(write, text, code):
    with raises(code, SettingsError, "remedy") as caught:
        read_policy(write(text), tee=TeeType.TDX if 'tee = "tdx"' in text else TeeType.SGX)
    assert "policy.toml" in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize("content", [b"[", b"\xff", b"a = 1\na = 2", b"a = " + b"[" * 50_000])
def test_what_is_no_toml(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    with raises("policy-file", SettingsError, "why", "remedy"):
        read_policy(tmp_path / "p")
    with raises("unreadable", UnreadableInputError, "remedy"):
        read_policy(tmp_path)


def test_a_quotes_own_policy_accepts_it(tmp_path, lab, evidence):
    files = lab.edit_signed(evidence, body={"isv_prod_id": 1}).write(tmp_path)
    written = run_confcom("policy", "from-quote", files / "q.bin")
    assert written.exit_code == 0, written.output
    (files / "policy.toml").write_text(written.stdout)
    jsonschema.validate(tomllib.loads(written.stdout), SCHEMA)
    arguments = (files, files / "q.bin", "--policy", files / "policy.toml", "--report-data", CHALLENGE.hex())
    assert run_verify(*arguments, "--allow-simulated").exit_code == 0
    assert run_verify(*arguments).exit_code == 3
    (identity,) = tomllib.loads(written.stdout)["identities"]
    assert identity == {"mr_enclave": lab.enclave.mr_enclave.hex()}
    for name, code in (("mine", 0), ("others", 3)):
        platform = tomllib.loads(written.stdout)["platforms"][0] if name == "mine" else "00" * 32
        (files / name).write_text(f"# the fleet\n\n{platform} # a machine\n")
        assert run_verify(*arguments, "--allow-simulated", "--platforms", files / name).exit_code == code
    for demand in (("--mrsigner", "00" * 32), ("--isv-prod-id", "0")):
        assert run_verify(*arguments, "--allow-simulated", *demand).exit_code == 3
    with (files / "policy.toml").open("a") as file:
        file.write("config_id = 1\n")
    assert run_verify(*arguments).exit_code == 2


def test_a_tds_own_policy_accepts_it(tmp_path, tdx_lab):
    files = tdx_lab.evidence().write(tmp_path)
    written = run_confcom("policy", "from-quote", files / "q.bin")
    assert written.exit_code == 0, written.output
    (files / "policy.toml").write_text(written.stdout)
    document = tomllib.loads(written.stdout)
    jsonschema.validate(document, SCHEMA)
    assert (document["tee"], document["images"]) == ("tdx", [{name: value.hex() for name, value in MEASURED.items()}])
    assert len(document["platforms"]) == 1
    assert all(f"# {name.upper().replace('_', '')}: " in written.stdout for name in MEASURED)
    arguments = (files, files / "q.bin", "--policy", files / "policy.toml", "--report-data", CHALLENGE.hex())
    for demand, code in (((), 0), (("--rtmr3", "11" * 48), 3)):
        assert run_verify(*arguments, "--allow-simulated", *demand).exit_code == code
    assert run_verify(*arguments).exit_code == 3


def test_a_policy_comes_through_standard_input(tmp_path, evidence):
    written = run_confcom("policy", "from-quote", evidence.write(tmp_path) / "q.bin").stdout
    checked = run_confcom("policy", "check", "-", input=written)
    assert (checked.exit_code, "A policy of SGX." in checked.stdout) == (0, True)
    refused = run_confcom("policy", "check", "-", input="nothing = 1")
    assert (refused.exit_code, "standard input" in refused.output) == (2, True)


BOUNDED = f'max_collateral_age = "7d"\nplatforms = ["{"0f" * 32}"]\n'
ENCLAVE = f'mr_enclave = "{"01" * 32}"\n'
SIGNER = f'mr_signer = "{"02" * 32}"\n'
TDX = f'tee = "tdx"\n{BOUNDED}'
REMARKS = (
    ("", ["names no enclave", "platforms", "max_collateral_age"]),
    (ENCLAVE, ["platforms", "max_collateral_age"]),
    (BOUNDED + ENCLAVE, []),
    (BOUNDED + ENCLAVE + SIGNER, []),
    (BOUNDED + SIGNER, ["isv_prod_id", "min_isv_svn"]),
    (BOUNDED + SIGNER + "isv_prod_id = 0\nmin_isv_svn = 0", []),
    (BOUNDED + f"[[identities]]\n{SIGNER}isv_prod_id = 1", ["min_isv_svn"]),
    (BOUNDED + f"isv_prod_id = 1\nmin_isv_svn = 2\n[[identities]]\n{SIGNER}", []),
    (BOUNDED + f"[[identities]]\n{ENCLAVE}[[identities]]\n{ENCLAVE}", ["alternatives"]),
    (BOUNDED + f"[[identities]]\n{ENCLAVE}[[identities]]\n{SIGNER}min_isv_svn = 1", ["alternatives", "isv_prod_id"]),
    (BOUNDED + "identities = []\naccepted_tcb_statuses = []", ["identities", "accepted_tcb_statuses"]),
    (BOUNDED + ENCLAVE + "allow_simulated = true", ["simulated"]),
    ('tee = "tdx"', ["names no TD", "platforms", "max_collateral_age"]),
    (TDX + f'mr_td = "{"01" * 48}"', ["The policy leaves rtmr0, rtmr1, rtmr2, rtmr3 open"]),
    (TDX + OF_A_TD.replace('tee = "tdx"', ""), []),
    (
        TDX + f'rtmr0 = "{"01" * 48}"\nrtmr1 = "{"01" * 48}"\nrtmr3 = "{"01" * 48}"' + IMAGES,
        ["alternatives", "Image 1"],
    ),
    (TDX + "images = []", ["images"]),
)


@pytest.mark.parametrize(("text", "words"), REMARKS)
def test_check_remarks_on_what_people_may_not_mean(write, text, words):
    shown = json.loads(run_confcom("policy", "check", write(text), "--output", "json").stdout)
    assert (shown["tee"], len(shown["remarks"])) == ("tdx" if "tdx" in text else "sgx", len(words))
    assert all(word in remark for word, remark in zip(words, shown["remarks"], strict=True))


ID, DIGEST = "0f" * 16, "0e" * 32
PLATFORMS = (
    (b"", []),
    (b"\n# nothing but comments\n   \n", []),
    (f"{ID}\n{DIGEST.upper()}  # rack 7\r\n\t{ID}".encode(), [ID, DIGEST]),
    (b"0f0f", None),
    (f"{ID} {DIGEST}".encode(), None),
    (f"{ID}\n\xff".encode("latin-1"), None),
    (b"\0" * 32, None),
)


@pytest.mark.parametrize(("content", "found"), PLATFORMS)
def test_platforms_from_a_file(tmp_path, content, found):
    (tmp_path / "fleet").write_bytes(content)
    if found is None:
        with raises("policy-file", SettingsError, "why", "remedy") as caught:
            read_platforms(tmp_path / "fleet")
        assert "line" in str(caught.value)
    else:
        assert read_platforms(tmp_path / "fleet") == {bytes.fromhex(text) for text in found}


def test_a_file_of_platforms_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "fleet").write_text("#" * 65)
    monkeypatch.setattr(policy_file, "MAX_POLICY_FILE_SIZE", 64)
    with raises("unreadable", UnreadableInputError, "remedy"):
        read_platforms(tmp_path / "fleet")

"""No secret in any notation: the scrubber, and what is shown of URLs."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.hardware_report.document.redaction import Scrubber, Secrets, redacted_url
from confcom.hardware_report.document.report import Finding, HardwareReport, Section
from confcom.hardware_report.sections.configuration import configuration_section, without_comments
from testkit.notations import holds

secrets = st.binary(min_size=8, max_size=48).filter(lambda data: len(set(data)) > 3)
around = st.binary(max_size=12)


def notations(secret, before, after):
    whole = before + secret + after
    yield from (whole.hex(), whole.hex().upper())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(whole).decode()
        yield encode(secret).decode().rstrip("=")


@given(secrets, around, around, st.text(max_size=8))
def test_a_secret_is_removed_in_every_notation_wherever_it_is(secret, before, after, text):
    for notation in notations(secret, before, after):
        carried = f"{text} {notation} {text}"
        section = Section("quote", {"anatomy": {"a": [carried], carried: {"b": carried}}}, secrets=Secrets.of(secret))
        other = Section("aesm", {"calls": [carried]}, (Finding(code="x", what=carried, do=carried),))
        assert holds(notation, secret)
        report = HardwareReport.of([other, section])
        shown = [str(one.values) + str(one.findings) for one in report.sections]
        assert not any(holds(one, secret) for one in shown)


@given(st.integers(min_value=1 << 40, max_value=1 << 160))
def test_serial_numbers_are_removed_in_decimal_and_hexadecimal(number):
    scrubber = Scrubber(Secrets.of(numbers=[-number]))
    for notation in (str(number), f"{number:x}", f"{number:X}", f"0x{number:040x}"):
        assert notation.lower() not in scrubber.text(f"serial {notation}.").lower()


@given(st.text(max_size=60), st.lists(secrets, max_size=3))
def test_a_text_without_secrets_stays_as_it_is(text, several):
    if not any(holds(text, secret) for secret in several):
        assert Scrubber(Secrets.of(*several)).text(f"<{text}>") == f"<{text}>"


@pytest.mark.parametrize("data", [b"", b"\0" * 16, b"\xff" * 16, b"ab"])
def test_what_identifies_nothing_removes_nothing(data):
    text = "0" * 64 + "f" * 64 + "6162"
    assert Scrubber(Secrets.of(data)).text(text) == text


words = st.from_regex(r"q7[A-Za-z0-9]{4,16}9z", fullmatch=True)
"""Passwords that are no word of the report's own texts."""
awkward = st.text(st.sampled_from("/?#@:;%[]\\ \t"), max_size=3)


@given(words, words, awkward, awkward)
def test_no_password_is_shown_of_any_url(user, password, inside, behind):
    for url in (
        f"https://{user}{inside}:{password}@pccs.corp:8081/v4/{behind}",
        f"https://pccs.corp/v4/?key={user}&{inside}={password}",
        f"{user}:{password}{inside}@pccs.corp",
        f"ftp://{user}:{password}@x/",
        f"https://{user}:{inside}{password}{behind}@pccs.corp/",
        f"https://pccs.corp/#{user}{password}",
    ):
        shown = redacted_url(url).replace("pccs.corp", "")
        assert user not in shown
        assert password not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://localhost:8081/sgx/certification/v4/", "https://localhost:8081/sgx/certification/v4/"),
        ("http://[::1]:81/", "http://[::1]:81/"),
        ("http://169.254.169.254/metadata/THIM", "http://169.254.169.254/metadata/THIM"),
        ("https://a:b@c/d?e#f", "https://(redacted)@c/d?(redacted)"),
        ("https://a:99999/", "redacted (16 characters, no plain http URL)"),
        ("localhost", "redacted (9 characters, no plain http URL)"),
        ("https://a b/", "redacted (12 characters, no plain http URL)"),
    ],
)
def test_of_a_url_host_and_path_are_shown(url, shown):
    assert redacted_url(url) == shown


@given(st.dictionaries(st.text(max_size=12), words), words)
def test_values_of_keys_that_are_not_known_or_not_of_their_form_are_not_shown(more, password):
    from json import dumps

    known = {"use_secure_cert": password, "retry_times": [password], "tcb_update_type": password, "pccs_url": password}
    given_keys = {f"x-{key}": value for key, value in more.items()} | known
    section = configuration_section(
        dumps(given_keys), "".join(f"{key} = {password}\n" for key in ("a", "proxy type")), []
    )
    shown = str(section)
    assert password not in shown
    assert not any(value in shown for value in more.values())


def test_comments_are_left_out_of_json_and_strings_stay():
    text = '{"a": "https://x/*y*/", // c "q"\n /* "b": 1 */ "c": "\\"//"}'
    assert without_comments(text) == '{"a": "https://x/*y*/",  \n   "c": "\\"//"}'

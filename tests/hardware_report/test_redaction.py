import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.hardware_report.report import text_lines
from confcom.hardware_report.software import configuration_facts, redacted_url, without_comments


def holds(text, secret):
    """Whether a text contains the secret in hexadecimal, or in base64 at any offset in the encoded bytes."""
    if secret.hex() in text.lower():
        return True
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            inner = encode(bytes(shift) + secret).decode().rstrip("=")
            if inner[-(-8 * shift // 6) : -1] in text:
                return True
    return False


def test_nothing_of_the_node_identifies_it(node, aesmd):
    report = node.report()
    for text in (json.dumps(report), "\n".join(text_lines(report))):
        assert "hunter2" not in text
        assert "0c1d" not in text  # the disk's id from the kernel's command line
        assert "7f100800" not in text.lower()  # EBX of leaf 1, which has the initial APIC id
        assert not holds(text, aesmd.provider.identity().pub_key_id)


words = st.text("ABCXYZabcxyz0189", min_size=4, max_size=16).map(lambda text: f"q7{text}9z")
"""Passwords that cannot occur in the report by chance."""
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
def test_unknown_keys_and_odd_values_are_not_shown(more, password):
    known = {"use_secure_cert": password, "retry_times": [password], "tcb_update_type": password, "pccs_url": password}
    given_keys = {f"x-{key}": value for key, value in more.items()} | known
    pairs = "".join(f"{key} = {password}\n" for key in ("a", "proxy type"))
    shown = str([configuration_facts(text) for text in (json.dumps(given_keys), pairs)])
    assert password not in shown
    assert not any(value in shown for value in more.values())


def test_comments_are_left_out_of_json_and_strings_stay():
    text = '{"a": "https://x/*y*/", // c "q"\n /* "b": 1 */ "c": "\\"//"}'
    assert without_comments(text) == '{"a": "https://x/*y*/",  \n   "c": "\\"//"}'

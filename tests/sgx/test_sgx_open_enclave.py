from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.quote import Quote, has_open_enclave_header, strip_open_enclave_header
from testkit.expected_errors import raises


def report(content, *, version=1, kind=2, size=None):
    declared = len(content) if size is None else size
    return version.to_bytes(4, "little") + kind.to_bytes(4, "little") + declared.to_bytes(8, "little") + content


@given(st.binary(max_size=100))
def test_every_content_comes_out_as_it_went_in(content):
    assert has_open_enclave_header(report(content))
    assert strip_open_enclave_header(report(content)) == content


def test_a_quote_with_the_header_is_named(chain_quote):
    with raises("open-enclave-report", MalformedError, "why") as caught:
        Quote.parse(report(chain_quote))
    assert "strip_open_enclave_header" in caught.value.remedy
    assert strip_open_enclave_header(report(chain_quote)) == chain_quote


def test_a_local_report_is_named_too_and_holds_no_quote():
    local = report(bytes(432), kind=1)
    with raises("open-enclave-report", MalformedError):
        Quote.parse(local)
    with raises("open-enclave-report", MalformedError, "remedy"):
        strip_open_enclave_header(local)


def test_a_size_that_disagrees_is_refused():
    for size in (0, 3, 5, 1 << 31):
        with raises("open-enclave-report", MalformedError) as caught:
            strip_open_enclave_header(report(b"abcd", size=size))
        assert f" {size} " in caught.value.why


def test_other_bytes_do_not_name_an_open_enclave_report(chain_quote):
    others = [report(b"abcd", **change) for change in ({"version": 2}, {"version": 257}, {"kind": 0}, {"kind": 3})]
    for data in (b"", report(b"")[:15], *others, report(b"abcd", size=1 << 32), chain_quote):
        assert not has_open_enclave_header(data)

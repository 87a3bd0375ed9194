import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.open_enclave import OpenEnclaveReportType, has_open_enclave_header, strip_open_enclave_header
from confcom.sgx.quote import Quote
from testkit.raised import raises


def report(content: bytes, *, version=1, kind=2, size=None) -> bytes:
    declared = len(content) if size is None else size
    return version.to_bytes(4, "little") + kind.to_bytes(4, "little") + declared.to_bytes(8, "little") + content


def test_the_quote_of_a_remote_report_is_read_after_stripping(chain_quote):
    assert has_open_enclave_header(report(chain_quote))
    assert strip_open_enclave_header(report(chain_quote)) == chain_quote


def test_a_quote_with_the_header_is_named_and_the_remedy_works(chain_quote):
    with raises("open-enclave-report", MalformedError, "why") as caught:
        Quote.parse(report(chain_quote))
    assert "strip_open_enclave_header" in caught.value.remedy


def test_a_local_report_is_named_too_and_holds_no_quote():
    local = report(bytes(432), kind=OpenEnclaveReportType.LOCAL)
    with raises("open-enclave-report", MalformedError):
        Quote.parse(local)
    with raises("open-enclave-local-report", MalformedError, "remedy"):
        strip_open_enclave_header(local)


@pytest.mark.parametrize("size", [0, 3, 5, 1 << 31])
def test_a_size_that_disagrees_is_refused(size):
    with raises("open-enclave-size-mismatch", MalformedError) as caught:
        strip_open_enclave_header(report(b"abcd", size=size))
    assert f" {size} " in caught.value.why


@pytest.mark.parametrize(
    "data",
    [
        b"",
        report(b"")[:15],
        report(b"abcd", version=2),
        report(b"abcd", version=0x0101),
        report(b"abcd", kind=0),
        report(b"abcd", kind=3),
        report(b"abcd", size=1 << 32),
    ],
)
def test_other_bytes_do_not_name_an_open_enclave_report(data):
    assert not has_open_enclave_header(data)
    with raises("no-open-enclave-header", MalformedError):
        strip_open_enclave_header(data)


def test_a_header_alone_is_named():
    assert has_open_enclave_header(report(b""))
    assert strip_open_enclave_header(report(b"")) == b""


def test_quotes_are_not_taken_for_open_enclave_reports(chain_quote, ppid_quote):
    assert not has_open_enclave_header(chain_quote)
    assert not has_open_enclave_header(ppid_quote)


@given(st.binary(max_size=100))
def test_every_content_comes_out_as_it_went_in(content):
    assert strip_open_enclave_header(report(content)) == content

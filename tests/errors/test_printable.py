import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text, ünïcödé 漢字", "plain text, ünïcödé 漢字"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[2K\x9b1A", r"\x1b[2K\x9b1A"),
        ("\x00\x7f", r"\x00\x7f"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\u2028\u2029\u0085", r"\u2028\u2029\x85"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        (r"C:\path", r"C:\path"),
        ("", ""),
    ],
)
def test_what_is_not_printable_is_escaped(raw, shown):
    assert printable(raw) == shown


@given(st.text(st.characters(codec=None)))
def test_the_result_is_one_printable_line_that_can_be_encoded(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown

import pytest

from confcom.demo.ledger import DeviceLedger


@pytest.mark.parametrize(
    ("requests", "fits"),
    [({}, True), ({"a/a": 0}, True), ({"a/a": 2}, True), ({"a/a": 3}, False), ({"a/a": 1, "n/n": 1}, False)],
)
def test_requests_of_several_resources(requests, fits):
    ledger = DeviceLedger()
    ledger.replace("a/a", {"x": True, "y": True, "ill": False})
    assert ledger.fits(requests) is fits

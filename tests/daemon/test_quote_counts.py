import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from confcom.daemon.quote_counts import MAX_ERRORS, QuoteCounts

NAME = "confcom_quote_helper_request_seconds"


@pytest.mark.parametrize("quotes", [0, 3, 4_000_000])
def test_quotes_and_errors_are_counted(quotes):
    registry = CollectorRegistry()
    seconds = Histogram(NAME, "x", ["request", "result"], registry=registry, buckets=[1])
    seen = {("InitQuoteEx", "success"): 5, ("GetQuoteEx", "success"): quotes}
    seen |= {("GetQuoteEx", "busy"): 4, ("InitQuoteEx", "busy"): 2, ("GetQuoteEx", "invalid_report"): 0}
    for labels, number in seen.items():
        seconds.labels(*labels)._buckets[0].inc(number)
    assert QuoteCounts.of_metrics(generate_latest(registry).decode()) == QuoteCounts(quotes, {"busy": 6})


@pytest.mark.parametrize("number", ["", "NaN", "+Inf", "1e999", "-3.0", "1.2.3", "9" * 400])
def test_other_texts_count_nothing(number):
    page = f'{NAME}_count{{request="GetQuoteEx",result="success"}} {number}\n'
    assert QuoteCounts.of_metrics(page) == QuoteCounts(0, {})


def test_a_hostile_page_has_no_more_errors_than_aesm():
    page = "".join(f'{NAME}_count{{request="GetQuoteEx",result="e{number}"}} 1\n' for number in range(10_000))
    assert len(QuoteCounts.of_metrics(page).errors) == MAX_ERRORS

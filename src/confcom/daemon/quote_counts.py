"""How many quotes a quote helper made, and how many requests failed, as its metrics page says."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_COUNT = re.compile(
    r'^confcom_quote_helper_request_seconds_count\{request="(\w{1,64})",result="(\w{1,64})"\}'
    r" (\d{1,20}(?:\.\d{1,20})?(?:e\+\d\d)?)$",
    re.MULTILINE,
)
_SUCCESS = "success"
MAX_ERRORS = 64
"""Maximum number of errors that are kept of a page, which anyone may have sent; AESM has 51."""


@dataclass(frozen=True, slots=True)
class QuoteCounts:
    """Numbers since the start of a quote helper."""

    made: int
    errors: Mapping[str, int]
    """Keyed by AESM's error in lower case: the number of requests that failed."""

    @classmethod
    def of_metrics(cls, metrics: str) -> "QuoteCounts":
        made, errors = 0, Counter[str]()
        for request, result, digits in _COUNT.findall(metrics):
            number = int(float(digits))
            made += number if (request, result) == ("GetQuoteEx", _SUCCESS) else 0
            errors[result] += number if result != _SUCCESS else 0
        return cls(made, {error: number for error, number in errors.most_common(MAX_ERRORS) if number})

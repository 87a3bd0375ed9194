import pytest

from confcom.addon.change import ChangeRefusedError
from confcom.addon.helm import Revision
from confcom.addon.rollback import previous


def history(*texts):
    """Revisions made from texts: `ok`, `failed`, or the number of the revision to which helm rolled back."""
    return [
        Revision.parse(
            {
                "revision": number,
                "status": "failed" if text == "failed" else "superseded",
                "description": f"Rollback to {text}" if isinstance(text, int) else "Upgrade complete",
            }
        )
        for number, text in enumerate(texts, 1)
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["ok", "ok"], 1),
        (["ok", "failed"], 1),
        (["ok", "failed", "ok"], 1),
        (["ok", "ok", "ok", 2], 1),
        (["ok", "ok", 1, "ok", 1, "ok", "failed", 6], 1),
        (["ok"], None),
        (["failed", "failed"], None),
        (["ok", "ok", 1], None),
        (["ok", "ok", 1, "ok", 3], None),
    ],
)
def test_each_rollback_goes_further_back(texts, expected):
    if expected is None:
        with pytest.raises(ChangeRefusedError):
            previous(history(*texts))
    else:
        assert previous(history(*texts)) == expected

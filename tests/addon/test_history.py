import pytest

from confcom.addon.history import NoRevisionError, Revision, previous


def history(*texts):
    """`ok`, `failed`, or the number that a revision is a rollback to."""
    made = []
    for number, text in enumerate(texts, 1):
        description = f"Rollback to {text}" if isinstance(text, int) else "Upgrade complete"
        status = "failed" if text == "failed" else "superseded"
        made.append(Revision.parse({"revision": number, "status": status, "description": description}))
    return made


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["ok", "ok"], 1),
        (["ok", "failed"], 1),
        (["ok", "failed", "ok"], 1),
        (["ok", "ok", "ok", 2], 1),
        (["ok", "ok", 1, "ok"], 1),
        (["ok", "ok", 1, "ok", 1, "ok", "failed", 6], 1),
    ],
)
def test_each_rollback_goes_further_back(texts, expected):
    assert previous(history(*texts)) == expected


@pytest.mark.parametrize("texts", [[], ["ok"], ["failed"], ["failed", "failed"], ["ok", "ok", 1]])
def test_there_is_nothing_to_go_back_to(texts):
    with pytest.raises(NoRevisionError):
        previous(history(*texts))

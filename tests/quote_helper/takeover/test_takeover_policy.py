import pytest

from confcom.daemon.socket_path import PathInspection, PathState, SocketHolder
from confcom.quote_helper.takeover.takeover_policy import MAX_SOCKET_PATH_BYTES, Instance, Step, decide

UID, STRANGER = 10001, 1000
ME = Instance(2, 5)
FREE, STALE, DIRECTORY = map(PathInspection, (PathState.FREE, PathState.STALE, PathState.OTHER))
UNKNOWN = PathInspection(PathState.LIVE)


def live(name, uid=UID):
    name = f"/aesm/.aesm.socket.{name.mark}" if isinstance(name, Instance) else name
    return PathInspection(PathState.LIVE, SocketHolder(name, uid))


OLDER, MINE, NEWER = live(Instance(1, 9)), live(ME), live(Instance(2, 6))
ROOTS, STRANGERS, FOREIGN = live(Instance(1, 9), 0), live(Instance(1, 9), STRANGER), live("/aesm/aesm.socket")


@pytest.mark.parametrize(
    ("found", "can_quote", "decided"),
    [
        (FREE, False, Step.BIND),
        (FREE, True, Step.BIND),
        (STALE, False, Step.BIND),
        (STALE, True, Step.BIND),
        (DIRECTORY, False, Step.BIND),
        (OLDER, False, "no-quote-made"),
        (OLDER, True, Step.REPLACE),
        (ROOTS, True, Step.REPLACE),
        (NEWER, False, "no-quote-made"),
        (NEWER, True, "newer-helper-serves"),
        (MINE, True, "newer-helper-serves"),
        (FOREIGN, False, "foreign-socket"),
        (FOREIGN, True, "foreign-socket"),
        (STRANGERS, True, "foreign-user-socket"),
        (UNKNOWN, True, "socket-not-identified"),
    ],
)
def test_the_rules(found, can_quote, decided):
    """A decision is a step or the code of a reason to wait. A helper closes its own extra socket itself."""
    decision = decide(found, me=ME, uid=UID, can_quote=can_quote)
    assert getattr(decision, "code", decision) == decided
    assert getattr(decision, "expected", False) is (decided in {"newer-helper-serves", "no-quote-made"})


def test_marks():
    instance = Instance(1_234_567_890, 0x0A0B0C)
    assert instance.mark == "confcom-00499602d2-0a0b0c"
    assert Instance.parse(f"/var/run/aesmd/.aesm.socket.{instance.mark}") == instance
    assert len(f"..{instance.mark}") + MAX_SOCKET_PATH_BYTES == 107


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/s",
        "/.s.c0ffee",
        "confcom-004996d2e1-0a0b0c",
        "/.s.confcom-004996d2e1-0a0b0",
        "/.s.confcom-004996D2E1-0a0b0c",
    ],
)
def test_other_names_are_not_ours(name):
    assert Instance.parse(name) is None

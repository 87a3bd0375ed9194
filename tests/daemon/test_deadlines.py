from confcom.daemon.deadlines import EXPIRED_PER_TURN, Deadlines
from testkit.waiting import until


async def test_items_expire_when_they_are_due_in_bounded_turns():
    now, expired = 0.0, []
    deadlines = Deadlines(0.001, lambda: now, expired.append)
    early = list(range(EXPIRED_PER_TURN + 1))
    for item in early:
        deadlines.add(item)
    now = 0.0005
    deadlines.add("late")
    now = 0.001
    await until(lambda: expired, pause=0)
    assert expired == early[:EXPIRED_PER_TURN]
    await until(lambda: expired == early)
    now = 0.002
    await until(lambda: expired == [*early, "late"])
    deadlines.close()

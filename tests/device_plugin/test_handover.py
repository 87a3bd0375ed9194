"""Updates of real plugins beside a kubelet stand-in; a second instance starts before the first instance ends."""

import contextlib
import os
import signal

import pytest

from confcom.kubernetes.names import REAL
from testkit.conditions import until
from testkit.kubelet import RULES, Kubelet

EPC_MIB = 168


@pytest.fixture(params=RULES)
def rules(request):
    return request.param


@pytest.fixture
async def kubelet(directory, rules):
    made = Kubelet(directory, RULES[rules])
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def start(kubelet, start_plugin):
    return lambda: start_plugin("--simulated-epc-mib", str(EPC_MIB), "--helper-epc-mib", "0")


@pytest.fixture
async def old(kubelet, start):
    instance = await start()
    await kubelet.until(lambda: full(kubelet))
    return instance


def full(kubelet):
    return kubelet.ledger.allocatable().get(REAL.epc) == EPC_MIB


def calls(kubelet):
    return len(kubelet.registrations(REAL.epc))


async def followed(kubelet, instance):
    """Wait until the kubelet follows all lists of an instance, and would send Allocate to the instance."""
    await instance.ready()
    await instance.until_registered()
    paths = {name: kubelet.directory / one["socket"] for name, one in (await instance.resources()).items()}
    await kubelet.until(
        lambda: all(kubelet.followed[path] == 1 and kubelet.asked(name) == path for name, path in paths.items())
    )


async def settled(kubelet, instance):
    """Wait until an instance reports all resources as registered, and the kubelet would call the instance."""
    await instance.until(
        lambda all_: all(
            one["registered"] and kubelet.asked(one["name"]) == kubelet.directory / one["socket"] for one in all_
        )
    )


def age(kubelet):
    """Make every socket a minute old, so that a new instance sees that the sockets' instances registered earlier."""
    for path in kubelet.directory.glob("sgx-*"):
        with contextlib.suppress(FileNotFoundError):  # an instance may replace the socket
            then = path.lstat().st_mtime - 60
            os.utime(path, (then, then))


async def hold(kubelet):
    """Let a Pod hold 4 MiB of EPC until the ledger releases the Pod; return its devices."""
    await kubelet.allocate("holds", "main", {REAL.epc: 4})
    return held(kubelet)


def held(kubelet):
    return [holding.ids for holding in kubelet.ledger._holdings if holding.pod == "holds"]


def gaps(kubelet):
    """Seconds for which the kubelet reported less than the full EPC: one number for each such period."""
    found, lost_at = [], None
    for at, allocatable in kubelet.history.allocatable:
        is_full = allocatable.get(REAL.epc) == EPC_MIB
        if lost_at is None and not is_full:
            lost_at = at
        elif lost_at is not None and is_full:
            found.append(at - lost_at)
            lost_at = None
    return found if lost_at is None else [*found, float("inf")]


async def test_the_new_instance_is_ready_once_it_is_taken(kubelet, old, start):
    kubelet.admits.clear()
    new = await start()
    await kubelet.until(lambda: calls(kubelet) == 2)
    assert (await new.get("/readyz"))[0] == 503
    assert not any(one["registered"] for one in (await new.resources()).values())
    assert all(one["registered"] for one in (await old.resources()).values())
    kubelet.admits.set()
    await followed(kubelet, new)
    assert old.alive
    assert not gaps(kubelet)[1:], "allocatable fell when the second instance came"


async def test_updates_one_after_another_lose_nothing(kubelet, old, start, rules):
    before, running = await hold(kubelet), old
    for _ in range(3):
        age(kubelet)
        new = await start()
        await followed(kubelet, new)
        await running.end(signal.SIGTERM)
        await kubelet.until(lambda: full(kubelet) and set(kubelet.followed.elements()) == kubelet.registered_sockets())
        running = new
    assert calls(kubelet) == (4 if rules == "1.37" else 7)
    assert len(gaps(kubelet)[1:]) == (0 if rules == "1.37" else 3), "the kubelet's rule, once for each update"
    assert held(kubelet) == before
    kubelet.ledger.release("holds")
    assert (full(kubelet), kubelet.ledger.allocated(REAL.epc)) == (True, 0)
    await until(lambda: len([path for path in kubelet.directory.iterdir() if path.is_socket()]) == 4)


async def test_a_lost_answer_to_register_is_asked_for_again(kubelet, start):
    """After a lost answer the kubelet already knows the path; kubelets from 1.37 on refuse a known path."""
    kubelet.lost_answers = 1
    instance = await start()
    await kubelet.until(lambda: full(kubelet))
    await instance.until_registered()
    assert [resource["code"] for resource in (await instance.resources()).values()] == [""] * 3
    assert len(kubelet.requests) >= 4


async def test_rolled_back_updates_leave_the_old_instance(kubelet, old, start, rules):
    before = await hold(kubelet)
    # Up to 1.36 the older stream stays open. When the stream closes, the kubelet disconnects the next plugin.
    times, cause = (1, "sibling_ended") if rules == "1.37" else (2, "stream_lost")
    for number, ending in enumerate((signal.SIGKILL, signal.SIGTERM), start=1):
        new = await start()
        await followed(kubelet, new)
        paths = kubelet.registered_sockets()
        await new.end(ending)
        await kubelet.until(lambda count=1 + number * (1 + times): full(kubelet) and calls(kubelet) == count)
        await old.until(
            lambda all_, count=1 + number * times: all(
                one["registrations"] == count and one["cause"] == cause for one in all_
            )
        )
        await settled(kubelet, old)
        resources = (await old.resources()).values()
        assert not paths & {kubelet.directory / one["socket"] for one in resources}
    await settled(kubelet, old)
    await until(lambda: len(list(kubelet.directory.glob("sgx-epc-*"))) == 1)
    await kubelet.allocate("comes", "main", {REAL.epc: 2})
    assert held(kubelet) == before
    if rules == "1.37":
        assert not gaps(kubelet)[1:], "allocatable fell although the old instance was there all the time"

    await kubelet.restart()
    await kubelet.until(lambda: full(kubelet) and calls(kubelet) == 2 + 2 * (1 + times))
    await settled(kubelet, old)
    await until(lambda: len(list(kubelet.directory.glob("sgx-*"))) == 3)


async def test_an_end_right_after_registration_is_seen(kubelet, old, start, rules):
    new = await start()
    await kubelet.until(lambda: calls(kubelet) == 2)
    await new.end(signal.SIGTERM)
    await kubelet.until(lambda: full(kubelet) and calls(kubelet) == (3 if rules == "1.37" else 4))
    await settled(kubelet, old)

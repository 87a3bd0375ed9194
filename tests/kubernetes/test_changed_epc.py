"""What preflight says of a change of EPC, beside what device plugins decide before and after it."""

import functools

from hypothesis import assume, given
from hypothesis import strategies as st

from confcom.kubernetes.epc_accounting import (
    AccountingKind,
    AccountingSetting,
    AccountingSettings,
    CapacitySupport,
    EpcInUse,
    OfferedEpc,
    changed_epc,
    decide_accounting,
    parse_api_version,
    set_aside_mib,
)

SIZES = st.sampled_from([28, 168, 1_024, 2_048, 2_054, 4_102, 8_192, 300_000, 1_048_576])
FLAGS = st.fixed_dictionaries(
    {
        "--accounting": st.sampled_from(["", *AccountingSetting]),
        "--api-server": st.sampled_from(["", "1.34", "1.35", "1.36", "1.37"]),
        "--capacity-support": st.sampled_from(["", *CapacitySupport]),
        "--max-epc-mib": st.sampled_from(["", "20", "1024", "4096", "500000"]),
        "--reserve-epc-mib": st.sampled_from(["", "10", "100", "5000"]),
        "--helper-epc-mib": st.sampled_from(["", "3"]),
    }
)


def flag_of(flags, name):
    return flags.get(name, "")


def decided(flags, found, in_use):
    version, most = flags["--api-server"], flags["--max-epc-mib"]
    settings = AccountingSettings(
        AccountingSetting(flags["--accounting"] or "auto"),
        parse_api_version(version) if version else None,
        CapacitySupport(flags["--capacity-support"] or "offline"),
        int(most) if most else None,
    )
    for_tenants = max(found - set_aside_mib(functools.partial(flag_of, flags)), 0)
    made = decide_accounting(settings, in_use, for_tenants)
    return OfferedEpc(made.kind, made.offered(for_tenants))


def kept_back(old, new, found, found_then, held):
    """By the device plugins' decisions: the node now, and what a drained one is to offer; None if that is no less."""
    now = decided(old, found, EpcInUse())
    as_devices = now.kind is AccountingKind.DEVICE
    then = decided(new, found_then, EpcInUse(now.mib if as_devices else 0))
    least = now.mib if as_devices else min(held, now.mib)
    return now, then.mib if then.mib < least or then.kind is not now.kind else None


@given(FLAGS, FLAGS, SIZES, SIZES, st.integers(1, 200))
def test_on_simulated_nodes_it_says_what_is_kept_back(old, new, size, new_size, held):
    now, expected = kept_back(old, new, size, new_size, held)
    assume(now.mib >= held)
    flags = [{**one, "--simulated-epc-mib": str(mib)} for one, mib in ((old, size), (new, new_size))]
    assert changed_epc(*(functools.partial(flag_of, one) for one in flags), now=now, held=held, limit=None) == expected


@given(FLAGS, FLAGS, SIZES, st.integers(1, 200))
def test_on_hardware_it_raises_no_false_alarm(old, new, size, held):
    now, expected = kept_back(old, new, size, size, held)
    assume(now.mib >= held)
    said = changed_epc(*(functools.partial(flag_of, one) for one in (old, new)), now=now, held=held, limit=None)
    assert said is None or expected is not None


@given(FLAGS, SIZES, st.integers(1, 200), st.booleans())
def test_of_an_update_that_changes_nothing_it_says_nothing(flags, size, held, simulated):
    now = decided(flags, size, EpcInUse())
    assume(now.mib >= held)
    made = flags | ({"--simulated-epc-mib": str(size)} if simulated else {})
    told = functools.partial(flag_of, made)
    assert changed_epc(told, told, now=now, held=held, limit=None) is None

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.kubernetes.epc_accounting import (
    AccountingKind,
    AccountingReason,
    AccountingSetting,
    AccountingSettings,
    ApiVersion,
    CapacitySupport,
    EpcInUse,
    decide_accounting,
    parse_api_version,
)

OLD, NEW = ApiVersion(1, 35), ApiVersion(1, 36)
DEVICE, CAPACITY = AccountingKind.DEVICE, AccountingKind.CAPACITY
AUTO, SET_DEVICES, SET_CAPACITY = AccountingSetting
NOTHING = EpcInUse()


def decide(api_server, support, mib, *, setting=AUTO, maximum=None, in_use=NOTHING):
    settings = AccountingSettings(setting, api_server, CapacitySupport(support), maximum)
    decided = decide_accounting(settings, in_use, mib)
    assert decided.why
    return decided.kind, decided.offered(mib), str(decided.choice)


@pytest.mark.parametrize("support", CapacitySupport)
@pytest.mark.parametrize("api_server", [ApiVersion(1, 30), OLD, NEW, ApiVersion(1, 37), ApiVersion(2, 0), None])
def test_small_epc_is_always_devices(api_server, support):
    assert decide(api_server, support, 2_048) == (DEVICE, 2_048, "fits-devices")


@pytest.mark.parametrize("support", CapacitySupport)
def test_an_old_cluster_counts_devices_up_to_what_one_list_holds(support):
    assert decide(OLD, support, 2_049) == (DEVICE, 2_049, "api-server-old")
    assert decide(OLD, support, 1_048_576) == (DEVICE, 262_144, "api-server-old")


@pytest.mark.parametrize("api_server", [NEW, ApiVersion(1, 37), None])
@pytest.mark.parametrize(
    ("support", "expected"),
    [
        ("supported", (CAPACITY, 1_048_576, "large-epc")),
        ("api-server", (DEVICE, 2_048, "api-server-old")),
        ("offline", (DEVICE, 2_048, "api-server-unknown")),
        ("policy-off", (DEVICE, 2_048, "no-policy")),
        ("controller-off", (DEVICE, 2_048, "no-controller")),
    ],
)
def test_large_epc_from_1_36_on(api_server, support, expected):
    assert decide(api_server, support, 1_048_576) == expected


@pytest.mark.parametrize(
    ("api_server", "maximum", "expected"),
    [
        (NEW, 2_048, (DEVICE, 2_048, "fits-devices")),
        (NEW, 4_096, (CAPACITY, 4_096, "large-epc")),
        (NEW, 500_000, (CAPACITY, 500_000, "large-epc")),
        (OLD, 4_096, (DEVICE, 4_096, "api-server-old")),
        (OLD, 500_000, (DEVICE, 262_144, "api-server-old")),
    ],
)
def test_the_operators_maximum(api_server, maximum, expected):
    assert decide(api_server, "supported", 1_048_576, maximum=maximum) == expected


def test_a_maximum_above_2048_is_consent_to_the_stall():
    assert decide(NEW, "policy-off", 10_000, maximum=4_096) == (DEVICE, 4_096, "no-policy")


@pytest.mark.parametrize("support", CapacitySupport)
@pytest.mark.parametrize("api_server", [OLD, NEW, None])
def test_an_explicit_choice_is_followed_where_nothing_is_held(api_server, support):
    many = 262_144 if api_server == OLD else 2_048
    for in_use in (NOTHING, EpcInUse(devices=2_048)):
        chosen = decide(api_server, support, 300_000, setting=SET_CAPACITY, in_use=in_use)
        assert chosen == (CAPACITY, 300_000, "set")
        chosen = decide(api_server, support, 300_000, setting=SET_DEVICES, in_use=in_use)
        assert chosen == (DEVICE, many, "set")


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("devices", "offered"), [(100, 2_048), (2_048, 2_048), (16_384, 16_384)])
def test_auto_keeps_devices_and_their_number(devices, offered, held):
    in_use = EpcInUse(devices=devices, devices_held=held)
    assert decide(NEW, "supported", 100_000, in_use=in_use) == (DEVICE, offered, "kept-devices")


def test_auto_keeps_held_devices_of_unknown_number():
    in_use = EpcInUse(devices=0, devices_held=True)
    assert decide(NEW, "supported", 100_000, in_use=in_use) == (DEVICE, 2_048, "kept-devices")


@pytest.mark.parametrize(("devices", "code"), [(2_048, "no-policy"), (16_384, "kept-devices")])
def test_auto_takes_no_device_away_where_devices_count_anyway(devices, code):
    assert decide(NEW, "policy-off", 100_000, in_use=EpcInUse(devices=devices)) == (DEVICE, devices, code)


def test_devices_become_more_where_they_do_not_stall_the_kubelet():
    assert decide(OLD, "api-server", 16_384, in_use=EpcInUse(devices=2_048)) == (DEVICE, 16_384, "api-server-old")


def test_an_explicit_maximum_decides_the_number_of_devices():
    in_use = EpcInUse(devices=16_384)
    assert decide(NEW, "supported", 100_000, maximum=4_096, in_use=in_use) == (DEVICE, 4_096, "kept-devices")


@pytest.mark.parametrize(("devices", "offered"), [(0, 2_048), (16_384, 16_384), (1_000_000, 262_144)])
def test_an_explicit_change_to_capacity_waits_for_held_devices(devices, offered):
    in_use = EpcInUse(devices=devices, devices_held=True)
    chosen = decide(NEW, "supported", 1_000_000, setting=SET_CAPACITY, in_use=in_use)
    assert chosen == (DEVICE, offered, "kept-allocated")


def test_explicit_devices_are_no_fewer_than_there_are():
    in_use = EpcInUse(devices=16_384, devices_held=True)
    assert decide(NEW, "supported", 100_000, setting=SET_DEVICES, in_use=in_use) == (DEVICE, 16_384, "set")


@pytest.mark.parametrize("setting", [AUTO, SET_DEVICES])
def test_capacity_that_may_be_held_is_not_lowered_to_devices(setting):
    in_use = EpcInUse(capacity_held=True)
    chosen = decide(NEW, "controller-off", 100_000, setting=setting, in_use=in_use)
    assert chosen == (CAPACITY, 100_000, "kept-allocated")
    code = "set" if setting is SET_DEVICES else "fits-devices"
    assert decide(NEW, "controller-off", 2_000, setting=setting, in_use=in_use) == (DEVICE, 2_000, code)
    assert decide(NEW, "controller-off", 100_000, setting=setting)[0] is DEVICE


@pytest.mark.parametrize(
    ("api_server", "setting", "maximum"),
    [(NEW, AUTO, 1_024), (NEW, AUTO, 2_048), (NEW, SET_DEVICES, 1_024), (NEW, SET_DEVICES, 4_096), (OLD, AUTO, 1_024)],
)
def test_a_maximum_does_not_change_capacity_that_may_be_held(api_server, setting, maximum):
    in_use = EpcInUse(capacity_held=True)
    chosen = decide(api_server, "supported", 8_192, setting=setting, maximum=maximum, in_use=in_use)
    assert chosen == (CAPACITY, maximum, "kept-allocated")


SETTINGS = st.builds(
    AccountingSettings,
    st.sampled_from(AccountingSetting),
    st.sampled_from([OLD, NEW, None]),
    st.sampled_from(CapacitySupport),
    st.none() | st.integers(1, 1_048_576),
)
DEVICES_IN_USE = st.builds(EpcInUse, st.integers(0, 300_000), st.booleans())
MIB = st.integers(1, 1_048_576)


@given(SETTINGS, st.just(NOTHING) | DEVICES_IN_USE | st.just(EpcInUse(capacity_held=True)), MIB)
def test_what_holds_for_every_decision(settings, in_use, mib):
    decided = decide_accounting(settings, in_use, mib)
    offered = decided.offered(mib)
    assert 1 <= offered <= mib
    assert settings.max_epc_mib is None or offered <= settings.max_epc_mib
    assert decided.kind is CAPACITY or offered <= 262_144
    if in_use.devices_held:
        assert decided.kind is DEVICE
    if settings.setting is AUTO and (in_use.devices or in_use.devices_held):
        assert decided.kind is DEVICE
        assert settings.max_epc_mib is not None or offered >= min(in_use.devices, mib, 262_144)
    if in_use.capacity_held:
        assert offered == min(mib, settings.max_epc_mib or mib)
        assert decided.kind is CAPACITY or offered == mib
    if decided.choice is AccountingReason.SET:
        assert decided.kind is (CAPACITY if settings.setting is SET_CAPACITY else DEVICE)


@given(SETTINGS, MIB, st.lists(st.sampled_from(CapacitySupport), min_size=1))
def test_auto_never_changes_devices_over(settings, mib, supports):
    settings = replace(settings, setting=AUTO, max_epc_mib=None, support=CapacitySupport.OFFLINE, api_server=None)
    offered = decide_accounting(settings, NOTHING, mib).offered(mib)
    for support in supports:
        for api_server in (OLD, NEW):
            now = replace(settings, support=support, api_server=api_server)
            decided = decide_accounting(now, EpcInUse(devices=offered), mib)
            assert decided.kind is DEVICE
            assert decided.offered(mib) >= offered
            offered = decided.offered(mib)


@pytest.mark.parametrize(
    ("text", "version"), [("1.36", (1, 36)), ("v1.35", (1, 35)), ("1.34+", (1, 34)), ("1.9", (1, 9))]
)
def test_versions(text, version):
    assert parse_api_version(text) == version
    assert (parse_api_version(text) >= NEW) is (version >= (1, 36))


@pytest.mark.parametrize("text", ["", "1", "1.36.2", "one.two", "1.36-gke", "99999.1"])
def test_what_is_no_version(text):
    with pytest.raises(ValueError, match="must be a version"):
        parse_api_version(text)

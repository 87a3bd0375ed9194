import pytest

from confcom.kubernetes.epc_accounting import (
    AccountingKind,
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


def held(devices, count=0):
    return EpcInUse(devices=devices, devices_held=True, held_count=count)


SUPPORTED, NO_POLICY, NO_CONTROLLER, OLD_API = "supported", "policy-off", "controller-off", "api-server"
MAYBE_HELD, FORGOTTEN = EpcInUse(capacity_held=True), EpcInUse(enclaves_held=True)
# Inputs: API server, support, MiB, setting, maximum, EPC in use. Results: kind, MiB offered, reason.
TABLE = [
    # An old cluster counts devices; one device list limits their number.
    (OLD, SUPPORTED, 2_049, AUTO, None, NOTHING, DEVICE, 2_049, "api-server-old"),
    (OLD, NO_CONTROLLER, 1_048_576, AUTO, None, NOTHING, DEVICE, 262_144, "api-server-old"),
    # The operator's maximum decides. With more than 2,048, the operator accepts the stall from many devices.
    (NEW, SUPPORTED, 1_048_576, AUTO, 2_048, NOTHING, DEVICE, 2_048, "fits-devices"),
    (NEW, SUPPORTED, 1_048_576, AUTO, 4_096, NOTHING, CAPACITY, 4_096, "large-epc"),
    (OLD, SUPPORTED, 1_048_576, AUTO, 4_096, NOTHING, DEVICE, 4_096, "api-server-old"),
    (OLD, SUPPORTED, 1_048_576, AUTO, 500_000, NOTHING, DEVICE, 262_144, "api-server-old"),
    (NEW, NO_POLICY, 10_000, AUTO, 4_096, NOTHING, DEVICE, 4_096, "no-policy"),
    # The node keeps its devices and their number, even if the number of held devices is unknown.
    (NEW, SUPPORTED, 100_000, AUTO, None, EpcInUse(100), DEVICE, 2_048, "kept-devices"),
    (NEW, SUPPORTED, 100_000, AUTO, None, held(2_048), DEVICE, 2_048, "kept-devices"),
    (NEW, SUPPORTED, 100_000, AUTO, None, EpcInUse(16_384), DEVICE, 16_384, "kept-devices"),
    (NEW, SUPPORTED, 100_000, AUTO, None, held(16_384), DEVICE, 16_384, "kept-devices"),
    (NEW, SUPPORTED, 100_000, AUTO, None, held(0), DEVICE, 2_048, "kept-devices"),
    # A node that must count devices keeps all of them; an old kubelet does not stall from more devices.
    (NEW, NO_POLICY, 100_000, AUTO, None, EpcInUse(2_048), DEVICE, 2_048, "no-policy"),
    (NEW, NO_POLICY, 100_000, AUTO, None, EpcInUse(16_384), DEVICE, 16_384, "kept-devices"),
    (OLD, OLD_API, 16_384, AUTO, None, EpcInUse(2_048), DEVICE, 16_384, "api-server-old"),
    # An explicit maximum decides the number of devices.
    (NEW, SUPPORTED, 100_000, AUTO, 4_096, EpcInUse(16_384), DEVICE, 4_096, "kept-devices"),
    # An explicit change of the accounting waits only until no Pod holds EPC.
    (NEW, SUPPORTED, 300_000, SET_CAPACITY, None, EpcInUse(2_048), CAPACITY, 300_000, "set"),
    (OLD, NO_CONTROLLER, 300_000, SET_CAPACITY, None, NOTHING, CAPACITY, 300_000, "set"),
    (NEW, SUPPORTED, 1_000_000, SET_CAPACITY, None, held(0), DEVICE, 2_048, "kept-allocated"),
    (NEW, SUPPORTED, 1_000_000, SET_CAPACITY, None, held(16_384), DEVICE, 16_384, "kept-allocated"),
    (NEW, SUPPORTED, 1_000_000, SET_CAPACITY, None, held(1_000_000), DEVICE, 262_144, "kept-allocated"),
    (NEW, SUPPORTED, 100_000, SET_DEVICES, None, held(16_384), DEVICE, 16_384, "set"),
    # If Pods may hold EPC capacity, neither a small EPC nor a maximum makes the node count devices.
    (NEW, NO_CONTROLLER, 100_000, AUTO, None, MAYBE_HELD, CAPACITY, 100_000, "kept-allocated"),
    (NEW, NO_CONTROLLER, 100_000, SET_DEVICES, None, MAYBE_HELD, CAPACITY, 100_000, "kept-allocated"),
    (NEW, NO_CONTROLLER, 2_000, AUTO, None, MAYBE_HELD, CAPACITY, 2_000, "kept-allocated"),
    (NEW, NO_CONTROLLER, 2_000, SET_DEVICES, None, MAYBE_HELD, CAPACITY, 2_000, "kept-allocated"),
    (NEW, SUPPORTED, 8_192, AUTO, 2_048, MAYBE_HELD, CAPACITY, 2_048, "kept-allocated"),
    (NEW, SUPPORTED, 8_192, SET_DEVICES, 4_096, MAYBE_HELD, CAPACITY, 4_096, "kept-allocated"),
    (OLD, SUPPORTED, 8_192, AUTO, 1_024, MAYBE_HELD, CAPACITY, 1_024, "kept-allocated"),
    # If the kubelet has lost its record, EPC counts as capacity where capacity is possible.
    (NEW, NO_CONTROLLER, 100, AUTO, None, FORGOTTEN, CAPACITY, 100, "kept-allocated"),
    (OLD, OLD_API, 100, AUTO, None, FORGOTTEN, DEVICE, 100, "fits-devices"),
    # Neither a maximum nor a smaller EPC removes devices that Pods hold.
    (NEW, SUPPORTED, 100_000, AUTO, 100, held(2_048, 1_000), DEVICE, 1_000, "kept-allocated"),
    (NEW, SUPPORTED, 62, AUTO, None, held(162, 162), DEVICE, 162, "kept-allocated"),
    (NEW, SUPPORTED, 62, AUTO, None, held(162, 62), DEVICE, 62, "fits-devices"),
    (NEW, SUPPORTED, 62, SET_DEVICES, None, held(62, 162), DEVICE, 162, "kept-allocated"),
    (NEW, SUPPORTED, 0, SET_CAPACITY, None, held(162, 100), DEVICE, 100, "kept-allocated"),
]


@pytest.mark.parametrize("row", TABLE)
def test_decision(row):
    api_server, support, mib, setting, maximum, in_use, *expected = row
    decided = decide(api_server, support, mib, setting=setting, maximum=maximum, in_use=in_use)
    assert list(decided) == expected


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

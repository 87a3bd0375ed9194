"""Changes of a node's EPC; a table in tests/addon/test_preflight.py has the EPC that is kept back."""

from hypothesis import given
from hypothesis import strategies as st

from confcom.kubernetes.epc_accounting import (
    AccountingKind,
    AccountingSetting,
    CapacitySupport,
    OfferedEpc,
    changed_epc,
)

MOST_DEVICES = 262_144
FLAGS = st.fixed_dictionaries(
    {
        "--accounting": st.sampled_from(["", *AccountingSetting]),
        "--api-server": st.sampled_from(["", "1.34", "1.35", "1.36", "1.37"]),
        "--capacity-support": st.sampled_from(["", *CapacitySupport]),
        "--max-epc-mib": st.sampled_from(["", "1024", "4096", "500000"]),
        "--reserve-epc-mib": st.sampled_from(["", "10", "100", "5000"]),
        "--helper-epc-mib": st.sampled_from(["", "3"]),
    }
)


@given(FLAGS, st.sampled_from(AccountingKind), st.integers(200, 1_048_576), st.integers(1, 200))
def test_an_update_that_changes_nothing_keeps_nothing_back(flags, kind, mib, held):
    most = min(int(flags["--max-epc-mib"] or mib), MOST_DEVICES if kind is AccountingKind.DEVICE else mib)
    now = OfferedEpc(kind, min(mib, most))
    assert changed_epc(*[lambda name: flags.get(name, "")] * 2, now=now, held=held, limit=None) is None

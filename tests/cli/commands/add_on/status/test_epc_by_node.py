"""`confcom status` asks the device plugins how EPC is counted."""


def test_the_command_asks_the_plugins(confcom, enabled):
    enabled.accountings["a"] = {"found": 4_096, "choice": "no-policy", "held_back_mib": 3_928, "reason": "r"}
    (node,) = confcom.document("status")["nodes"]
    assert node["epc"]["found_mib"] == 4_096
    assert node["epc"]["accounting"] == {
        "kind": "device",
        "choice": "no-policy",
        "reason": "r",
        "held_back_mib": 3_928,
    }
    assert [note["code"] for note in confcom.document("status")["notes"]] == ["epc-held-back"]
    enabled.silent_plugins.add("a")
    found = confcom.document("status")
    assert found["ok"]
    assert [one["code"] for one in found["not_compared_details"]] == ["accounting-not-read"]
    assert found["nodes"][0]["epc"]["accounting"] is None

from confcom.sgx.key_id import ATT_KEY_ID_COMPARED, ECDSA_P256_KEY_ID, AttKeyAlgorithm, AttKeyId


def test_our_key_is_the_one_that_intels_server_advertises(vector):
    message = vector("resp_intel229_ids")
    assert message[13:] == ECDSA_P256_KEY_ID.encode()
    assert AttKeyId.parse(message[13:]) == ECDSA_P256_KEY_ID
    assert ECDSA_P256_KEY_ID.algorithm_id == AttKeyAlgorithm.ECDSA_P256 == 2


def test_the_callers_own_fields_are_not_compared():
    assert ECDSA_P256_KEY_ID.encode()[ATT_KEY_ID_COMPARED:] == bytes(98)
    changed = AttKeyId.parse(ECDSA_P256_KEY_ID.encode()[:158] + b"\xff" * 98)
    assert changed.spid == b"\xff" * 16
    assert changed.algorithm_id == 2


def test_algorithms_have_intels_numbers():
    assert {a.name: a.value for a in AttKeyAlgorithm} == {
        "EPID_UNLINKABLE": 0,
        "EPID_LINKABLE": 1,
        "ECDSA_P256": 2,
        "ECDSA_P384": 3,
    }

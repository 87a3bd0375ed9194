import hmac

from cryptography.hazmat.primitives.asymmetric import ec

from confcom.errors import MalformedError
from confcom.simulation.keys import P256_ORDER, derive_bytes, derive_private_key, sign
from testkit.raised import raises


def hkdf(seed, info, size):
    """RFC 5869 with SHA-256 and no salt, written out."""
    key = hmac.digest(bytes(32), seed, "sha256")
    output = block = b""
    counter = 1
    while len(output) < size:
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:size]


def test_bytes_are_hkdf_and_private_keys_have_extra_bits(seed):
    for size in (1, 19, 32, 40):
        assert derive_bytes(seed, "label", size) == hkdf(seed, b"confcom simulated platform, version 1: label", size)
    candidate = hkdf(seed, b"confcom simulated platform, version 1: private key of root", 40)
    expected = int.from_bytes(candidate, "big") % (P256_ORDER - 1) + 1
    assert derive_private_key(seed, "root").private_numbers().private_value == expected
    for size in (0, 31, 33):
        with raises("wrong-size", MalformedError, "remedy"):
            derive_private_key(bytes(size), "root")


def test_rfc_6979_vector():
    """RFC 6979, A.2.5: P-256, SHA-256, message "sample"."""
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    signature = sign(ec.derive_private_key(private, ec.SECP256R1()), b"sample").hex().upper()
    assert signature == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )

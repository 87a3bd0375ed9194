from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.binary import der_element as tlv
from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension, PckTcb, PlatformConfiguration, SgxType
from confcom.sgx.quote import Quote
from testkit.expected_errors import raises
from tests.sgx.conftest import exactly

TCBS = st.builds(
    PckTcb,
    components=st.lists(st.integers(0, 255), min_size=16, max_size=16).map(tuple),
    pce_svn=st.integers(0, 0xFFFF),
    cpu_svn=exactly(16),
)
PROCESSOR = st.builds(
    PckExtension,
    ppid=exactly(16),
    tcb=TCBS,
    pce_id=exactly(2),
    fmspc=exactly(6),
    sgx_type=st.sampled_from(SgxType),
    platform_instance_id=st.none(),
    configuration=st.none(),
)
PLATFORM = st.builds(
    replace,
    PROCESSOR,
    platform_instance_id=exactly(16),
    configuration=st.builds(PlatformConfiguration, st.booleans(), st.booleans(), st.booleans()),
)

PLAIN = PckExtension(
    ppid=bytes(range(16)),
    tcb=PckTcb(components=tuple(range(1, 17)), pce_svn=300, cpu_svn=bytes(range(16, 32))),
    pce_id=b"\x0a\x0b",
    fmspc=b"\x01\x02\x03\x04\x05\x06",
    sgx_type=SgxType.STANDARD,
)
MULTI = replace(
    PLAIN,
    sgx_type=SgxType.SCALABLE,
    platform_instance_id=b"\x77" * 16,
    configuration=PlatformConfiguration(dynamic_platform=True, cached_keys=False, smt_enabled=True),
)


def octets(value):
    return tlv(0x04, value)


def integer(value):
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))


ARC = bytes.fromhex("2a864886f84d010d01")
"""The OID of the PCK extension, in DER without tag and length."""


def member(*arcs_and_value):
    *arcs, value = arcs_and_value
    return tlv(0x30, tlv(0x06, ARC + bytes(arcs)) + value)


def tcb_members(*extra, numbers=range(1, 17)):
    members = [member(2, number, integer(number)) for number in numbers]
    members += [member(2, 17, integer(300)), member(2, 18, octets(bytes(range(16, 32))))]
    return b"".join([*members, *extra])


def extension(**changes):
    """The PCK extension of PLAIN, encoded by hand; `changes` replace, add or (None) drop members."""
    members = {
        "ppid": member(1, octets(bytes(range(16)))),
        "tcb": member(2, tlv(0x30, tcb_members())),
        "pce_id": member(3, octets(b"\x0a\x0b")),
        "fmspc": member(4, octets(b"\x01\x02\x03\x04\x05\x06")),
        "sgx_type": member(5, tlv(0x0A, b"\x00")),
    }
    return tlv(0x30, b"".join(m for m in (members | changes).values() if m is not None))


def configuration(*values, count=3):
    flags = [member(7, n, tlv(0x01, bytes([value]))) for n, value in enumerate(values, 1)]
    return member(7, tlv(0x30, b"".join(flags[:count])))


INSTANCE = member(6, octets(b"\x77" * 16))


def test_der_written_by_hand_is_the_same():
    scalable = member(5, tlv(0x0A, b"\x01"))
    multi = extension(sgx_type=scalable, instance=INSTANCE, configuration=configuration(0xFF, 0, 0xFF))
    for value, by_hand in ((PLAIN, extension()), (MULTI, multi)):
        assert value.encode() == by_hand
        assert PckExtension.parse(by_hand) == value


@given(PROCESSOR | PLATFORM)
def test_every_extension_survives_a_round_trip(value):
    assert PckExtension.parse(value.encode()) == value


def test_the_extension_of_a_genuine_pck_certificate(chain_quote):
    leaf = x509.load_pem_x509_certificate(Quote.parse(chain_quote).signature.certification.pem_chain()[0])
    der = leaf.extensions.get_extension_for_oid(SGX_EXTENSION_OID).value.public_bytes()
    value = PckExtension.from_certificate(leaf)
    components = (6, 6, 2, 4, 1, 128, 1, *[0] * 9)
    assert value.encode() == der
    assert value.tcb == PckTcb(components=components, pce_svn=7, cpu_svn=bytes(components))
    assert (value.fmspc.hex(), value.pce_id, value.sgx_type) == ("00906ea10000", bytes(2), SgxType.STANDARD)
    assert value.platform_instance_id is value.configuration is None


def test_issuers_have_no_such_extension(chain_quote):
    for issuer in Quote.parse(chain_quote).signature.certification.pem_chain()[1:]:
        with raises("no-sgx-extension", MalformedError, "remedy") as caught:
            PckExtension.from_certificate(x509.load_pem_x509_certificate(issuer))
        assert "1.2.840.113741.1.13.1" in caught.value.why


UNSUPPORTED = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa3\x00")
"""An alternative name (x400Address), which the package `cryptography` reports as unsupported."""


@pytest.mark.parametrize(
    ("extensions", "code"),
    [
        ([x509.UnrecognizedExtension(SGX_EXTENSION_OID, b"\x05\x00")], "not-an-sgx-extension"),
        ([x509.UnrecognizedExtension(SGX_EXTENSION_OID, MULTI.encode()), UNSUPPORTED], "no-sgx-extension"),
    ],
)
def test_an_extension_that_cannot_be_decoded_is_refused(extensions, code):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    with raises(code, MalformedError, "why"):
        PckExtension.from_certificate(builder.sign(key, SHA256()))


@pytest.mark.parametrize("value", [PLAIN, MULTI])
def test_every_cut_or_changed_bit_is_refused_or_shows(value):
    der = value.encode()
    for offset in range(len(der)):
        with raises("not-an-sgx-extension", MalformedError, "why"):
            PckExtension.parse(der[:offset])
        for bit in range(8):
            damaged = bytearray(der)
            damaged[offset] ^= 1 << bit
            try:
                parsed = PckExtension.parse(bytes(damaged))
            except MalformedError:
                continue
            assert parsed.encode() == damaged
            assert parsed != value


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        extension() + b"\0",
        extension(ppid=None),
        extension(tcb=None),
        extension(sgx_type=None),
        extension(tcb=member(2, tlv(0x30, tcb_members(numbers=[*range(1, 7), *range(8, 17)])))),
        extension(tcb=member(2, tlv(0x30, tcb_members(member(2, 19, integer(1)))))),
        extension(instance=INSTANCE, configuration=configuration(0, 0, 0), more=member(8, octets(b""))),
        extension(configuration=configuration(0, 0, 0)),
        extension(instance=INSTANCE, configuration=configuration(0, 0, 0, count=2)),
        extension(instance=INSTANCE, configuration=configuration(1, 0, 0)),
        extension(ppid=member(1, integer(1))),
        extension(tcb=member(2, octets(tcb_members()))),
        extension(instance=INSTANCE),
    ],
)
def test_other_structures_are_refused(der):
    with raises("not-an-sgx-extension", MalformedError, "why"):
        PckExtension.parse(der)


def test_configuration_flags_are_read_each_from_its_own_member():
    for n in range(3):
        flags = [n == 0, n == 1, n == 2]
        der = extension(instance=INSTANCE, configuration=configuration(*(0xFF * flag for flag in flags)))
        assert PckExtension.parse(der).configuration == PlatformConfiguration(*flags)


def test_an_unknown_sgx_type_is_refused():
    others = [tlv(0x0A, content) for content in (b"", b"\x03", b"\x00\x00", b"\xff")]
    for value in (tlv(0x02, b"\0"), tlv(0x04, b"\0"), tlv(0x30, b""), *others):
        with raises("not-an-sgx-extension", MalformedError):
            PckExtension.parse(extension(sgx_type=member(5, value)))
    assert [(t.name, t.value) for t in SgxType] == [("STANDARD", 0), ("SCALABLE", 1), ("SCALABLE_WITH_INTEGRITY", 2)]


def tcb(**changes):
    return replace(PLAIN.tcb, **changes)


@pytest.mark.parametrize(
    ("change", "code", "name"),
    [
        ({"ppid": bytes(15)}, "wrong-size", "PPID"),
        ({"pce_id": bytes(3)}, "wrong-size", "PCE-ID"),
        ({"fmspc": bytes(5)}, "wrong-size", "FMSPC"),
        ({"tcb": tcb(cpu_svn=bytes(17))}, "wrong-size", "CPUSVN"),
        ({"tcb": tcb(components=(0,) * 15)}, "not-an-sgx-extension", ""),
        ({"tcb": tcb(components=(0,) * 17)}, "not-an-sgx-extension", ""),
        ({"tcb": tcb(components=(*(0,) * 15, 256))}, "out-of-range", "component 16"),
        ({"tcb": tcb(components=(-1, *(0,) * 15))}, "out-of-range", "component 1"),
        ({"tcb": tcb(pce_svn=0x10000)}, "out-of-range", "PCESVN"),
        ({"tcb": tcb(pce_svn=-1)}, "out-of-range", "PCESVN"),
        ({"platform_instance_id": bytes(16)}, "not-an-sgx-extension", ""),
        ({"configuration": MULTI.configuration}, "not-an-sgx-extension", ""),
        ({"configuration": MULTI.configuration, "platform_instance_id": bytes(17)}, "wrong-size", "instance id"),
    ],
)
def test_a_value_out_of_range_is_not_written(change, code, name):
    with raises(code, MalformedError, naming=name):
        replace(PLAIN, **change).encode()


@pytest.mark.parametrize(
    ("members", "code", "name"),
    [
        ({"ppid": member(1, octets(bytes(17)))}, "wrong-size", "PPID"),
        ({"tcb": (integer(300), b"\x02\x02\xff\x00")}, "out-of-range", "PCESVN"),
        ({"tcb": (integer(5), b"\x02\x01\x85")}, "out-of-range", "component 5"),
    ],
)
def test_a_value_out_of_range_is_not_read(members, code, name):
    if "tcb" in members:
        members = {"tcb": member(2, tlv(0x30, tcb_members().replace(*members["tcb"])))}
    with raises(code, MalformedError, naming=name):
        PckExtension.parse(extension(**members))

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx import pck_extension_der
from confcom.sgx.pck_extension import SGX_EXTENSION_OID, PckExtension, PckTcb, PlatformConfiguration, SgxType
from confcom.sgx.pck_extension_der import member_oid
from confcom.sgx.quote import Quote


def exactly(size):
    return st.binary(min_size=size, max_size=size)


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
ARC = bytes.fromhex("2a864886f84d010d01")
"""The extension's own OID, as DER writes it without tag and length."""


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def member(*arcs_and_value) -> bytes:
    *arcs, value = arcs_and_value
    return tlv(0x30, tlv(0x06, ARC + bytes(arcs)) + value)


def octets(content: bytes) -> bytes:
    return tlv(0x04, content)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def tcb_members(*, skip=(), extra=(), swap=False) -> list[bytes]:
    members = [member(2, n, integer(n)) for n in range(1, 17) if n not in skip]
    if swap:
        members[0], members[1] = members[1], members[0]
    members += [member(2, 17, integer(300)), member(2, 18, octets(bytes(range(16, 32))))]
    return [*members, *extra]


def extension(**changes) -> bytes:
    """PLAIN by hand, with members exchanged, dropped (None) or added."""
    members = {
        "ppid": member(1, octets(bytes(range(16)))),
        "tcb": member(2, tlv(0x30, b"".join(tcb_members()))),
        "pce_id": member(3, octets(b"\x0a\x0b")),
        "fmspc": member(4, octets(b"\x01\x02\x03\x04\x05\x06")),
        "sgx_type": member(5, tlv(0x0A, b"\x00")),
    }
    return tlv(0x30, b"".join(m for m in (members | changes).values() if m is not None))


def configuration(*values: int, count=3) -> bytes:
    flags = [member(7, n, tlv(0x01, bytes([value]))) for n, value in enumerate(values, 1)]
    return member(7, tlv(0x30, b"".join(flags[:count])))


INSTANCE = member(6, octets(b"\x77" * 16))


def test_der_written_by_hand_is_the_same():
    assert PLAIN.encode() == extension()
    assert PckExtension.parse(extension()) == PLAIN


def test_platform_der_written_by_hand_is_the_same():
    by_hand = extension(
        sgx_type=member(5, tlv(0x0A, b"\x01")), instance=INSTANCE, configuration=configuration(0xFF, 0, 0xFF)
    )
    assert MULTI.encode() == by_hand
    assert PckExtension.parse(by_hand) == MULTI


@given(PROCESSOR | PLATFORM)
def test_every_extension_survives_a_round_trip(value):
    assert PckExtension.parse(value.encode()) == value


def test_the_extension_of_a_genuine_pck_certificate(chain_quote):
    leaf = x509.load_pem_x509_certificate(Quote.parse(chain_quote).signature.certification.pem_chain()[0])
    der = leaf.extensions.get_extension_for_oid(SGX_EXTENSION_OID).value.public_bytes()
    value = PckExtension.from_certificate(leaf)
    assert value.encode() == der
    assert value.tcb.components == (6, 6, 2, 4, 1, 128, 1, *[0] * 9)
    assert value.tcb.cpu_svn == bytes(value.tcb.components)
    assert value.tcb.pce_svn == 7
    assert value.fmspc.hex() == "00906ea10000"
    assert value.pce_id == bytes(2)
    assert value.sgx_type is SgxType.STANDARD
    assert value.platform_instance_id is None
    assert value.configuration is None


@pytest.mark.parametrize(
    ("size", "header"),
    [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100"), (65536, "0483010000")],
)
def test_lengths_are_written_in_their_shortest_form(size, header):
    assert pck_extension_der.octets(bytes(size)) == bytes.fromhex(header) + bytes(size)


@pytest.mark.parametrize(
    ("value", "der"), [(0, "020100"), (127, "02017f"), (128, "02020080"), (255, "020200ff"), (65535, "020300ffff")]
)
def test_integers_are_written_in_their_shortest_form(value, der):
    assert pck_extension_der.integer(value).hex() == der


def test_member_oids_lie_below_the_extensions_own():
    assert member_oid(5).dotted_string == "1.2.840.113741.1.13.1.5"
    assert member_oid(2, 18).dotted_string == "1.2.840.113741.1.13.1.2.18"


@pytest.mark.parametrize("index", [1, 2])
def test_issuers_have_no_such_extension(chain_quote, index):
    issuer = x509.load_pem_x509_certificate(Quote.parse(chain_quote).signature.certification.pem_chain()[index])
    with pytest.raises(MalformedError, match="no SGX extension that could be read") as caught:
        PckExtension.from_certificate(issuer)
    assert "1.2.840.113741.1.13.1" in caught.value.why
    assert "PCK certificate" in caught.value.remedy


def test_a_malformed_extension_in_a_certificate_is_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(SGX_EXTENSION_OID, b"\x05\x00"), critical=False)
        .sign(key, SHA256())
    )
    with pytest.raises(MalformedError, match="this is not the SGX extension"):
        PckExtension.from_certificate(certificate)


def test_other_extensions_that_the_library_cannot_decode_are_an_error():
    """An alternative name of a kind that cryptography knows and does not support (x400Address)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    alternative_name = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa3\x00")
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(SGX_EXTENSION_OID, MULTI.encode()), critical=False)
        .add_extension(alternative_name, critical=False)
        .sign(key, SHA256())
    )
    with pytest.raises(MalformedError, match="no SGX extension that could be read"):
        PckExtension.from_certificate(certificate)


@pytest.mark.parametrize("value", [PLAIN, MULTI])
def test_every_truncation_is_refused(value):
    der = value.encode()
    for length in range(len(der)):
        with pytest.raises(MalformedError, match="this is not the SGX extension") as caught:
            PckExtension.parse(der[:length])
        assert "ParseError" in caught.value.why


@pytest.mark.parametrize("value", [PLAIN, MULTI])
def test_every_changed_bit_is_refused_or_shows(value):
    der = value.encode()
    for offset in range(len(der)):
        for bit in range(8):
            damaged = bytearray(der)
            damaged[offset] ^= 1 << bit
            try:
                parsed = PckExtension.parse(bytes(damaged))
            except MalformedError:
                continue
            assert parsed.encode() == damaged
            assert parsed != value


@given(st.data())
def test_damaged_der_is_refused_or_read_as_it_is(data):
    raw = data.draw(PROCESSOR | PLATFORM).encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    damaged = raw[:start] + data.draw(st.binary(max_size=30)) + raw[end:]
    try:
        parsed = PckExtension.parse(damaged)
    except MalformedError:
        return
    assert parsed.encode() == damaged


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        extension() + b"\0",
        extension(ppid=None),
        extension(tcb=None),
        extension(sgx_type=None),
        extension(tcb=member(2, tlv(0x30, b"".join(tcb_members(skip=(7,)))))),
        extension(tcb=member(2, tlv(0x30, b"".join(tcb_members(extra=[member(2, 19, integer(1))]))))),
        extension(instance=INSTANCE, configuration=configuration(0, 0, 0), more=member(8, octets(b""))),
        extension(configuration=configuration(0, 0, 0)),
        extension(instance=INSTANCE, configuration=configuration(0, 0, 0, count=2)),
        extension(instance=INSTANCE, configuration=configuration(1, 0, 0)),
        extension(ppid=member(1, integer(1))),
        extension(tcb=member(2, octets(b"".join(tcb_members())))),
    ],
)
def test_other_structures_are_refused(der):
    with pytest.raises(MalformedError):
        PckExtension.parse(der)


def test_a_platform_instance_id_without_a_configuration_is_refused():
    with pytest.raises(MalformedError, match="without the other") as caught:
        PckExtension.parse(extension(instance=INSTANCE))
    assert "Platform CA carry both" in caught.value.why


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (extension(ppid=member(9, octets(bytes(16)))), "1.13.1.9 stands where 1.2.840.113741.1.13.1.1"),
        (extension(tcb=member(9, tlv(0x30, b"".join(tcb_members())))), "13.1.9 stands where 1.2.840.113741.1.13.1.2"),
        (extension(tcb=member(2, tlv(0x30, b"".join(tcb_members(swap=True))))), "13.1.2.2 stands where"),
        (extension(pce_id=member(4, octets(bytes(2)))), "13.1.4 stands where 1.2.840.113741.1.13.1.3"),
        (extension(fmspc=member(3, octets(bytes(6)))), "13.1.3 stands where 1.2.840.113741.1.13.1.4"),
        (extension(sgx_type=member(6, tlv(0x0A, b"\0"))), "13.1.6 stands where 1.2.840.113741.1.13.1.5"),
        (
            extension(instance=member(9, octets(bytes(16))), configuration=configuration(0, 0, 0)),
            "13.1.9 stands where 1.2.840.113741.1.13.1.6",
        ),
    ],
)
def test_a_member_in_anothers_place_is_named(der, why):
    with pytest.raises(MalformedError, match="not the expected ones") as caught:
        PckExtension.parse(der)
    assert why in caught.value.why


@pytest.mark.parametrize("number", range(1, 19))
def test_each_tcb_member_must_carry_its_number(number):
    der = PLAIN.encode().replace(ARC + bytes([2, number]), ARC + bytes([3, number]))
    with pytest.raises(MalformedError, match="not the expected ones") as caught:
        PckExtension.parse(der)
    assert caught.value.why.endswith(f"1.2.840.113741.1.13.1.2.{number} belongs")


@pytest.mark.parametrize("arcs", [(7,), (7, 1), (7, 2), (7, 3)])
def test_each_configuration_member_must_carry_its_number(arcs):
    oid = tlv(0x06, ARC + bytes(arcs))
    der = MULTI.encode().replace(oid, oid[:-1] + b"\x0f")
    with pytest.raises(MalformedError, match="not the expected ones") as caught:
        PckExtension.parse(der)
    assert caught.value.why.endswith(".".join(map(str, (1, *arcs))) + " belongs")


def test_configuration_flags_are_read_each_from_its_own_member():
    for n in range(3):
        flags = [n == 0, n == 1, n == 2]
        der = extension(instance=INSTANCE, configuration=configuration(*(0xFF * flag for flag in flags)))
        assert PckExtension.parse(der).configuration == PlatformConfiguration(*flags)


@pytest.mark.parametrize("value", [tlv(0x02, b"\0"), tlv(0x04, b"\0"), tlv(0x30, b"")])
def test_an_sgx_type_that_is_not_enumerated_is_refused(value):
    with pytest.raises(MalformedError, match="is not ENUMERATED"):
        PckExtension.parse(extension(sgx_type=member(5, value)))


@pytest.mark.parametrize("content", [b"", b"\x03", b"\x00\x00", b"\xff"])
def test_an_unknown_sgx_type_is_refused(content):
    with pytest.raises(MalformedError, match=f"SGX type 0x{content.hex()} of a PCK certificate is unknown"):
        PckExtension.parse(extension(sgx_type=member(5, tlv(0x0A, content))))


def test_sgx_types_have_intels_numbers():
    assert [(t.name, t.value) for t in SgxType] == [("STANDARD", 0), ("SCALABLE", 1), ("SCALABLE_WITH_INTEGRITY", 2)]


def tcb(**changes):
    return replace(PLAIN.tcb, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ppid": bytes(15)}, "a PPID must be 16 bytes, not 15"),
        ({"pce_id": bytes(3)}, "a PCE-ID must be 2 bytes, not 3"),
        ({"fmspc": bytes(5)}, "an FMSPC must be 6 bytes, not 5"),
        ({"tcb": tcb(cpu_svn=bytes(17))}, "a CPUSVN must be 16 bytes, not 17"),
        ({"tcb": tcb(components=(0,) * 15)}, "16 components, not 15"),
        ({"tcb": tcb(components=(0,) * 17)}, "16 components, not 17"),
        ({"tcb": tcb(components=(*(0,) * 15, 256))}, "TCB component 16 is not between 0 and 255"),
        ({"tcb": tcb(components=(-1, *(0,) * 15))}, "TCB component 1 is not between 0 and 255"),
        ({"tcb": tcb(pce_svn=0x10000)}, "the PCESVN is not between 0 and 65535"),
        ({"tcb": tcb(pce_svn=-1)}, "the PCESVN is not between 0 and 65535"),
        ({"platform_instance_id": bytes(16)}, "without the other"),
        ({"configuration": MULTI.configuration}, "without the other"),
        (
            {"configuration": MULTI.configuration, "platform_instance_id": bytes(17)},
            "a platform instance id must be 16 bytes, not 17",
        ),
    ],
)
def test_a_value_out_of_range_is_not_written(change, message):
    with pytest.raises(MalformedError, match=message):
        replace(PLAIN, **change).encode()


@pytest.mark.parametrize(
    ("der", "message"),
    [
        (extension(ppid=member(1, octets(bytes(17)))), "a PPID must be 16 bytes, not 17"),
        (
            extension(tcb=member(2, tlv(0x30, b"".join(tcb_members()).replace(integer(300), b"\x02\x02\xff\x00")))),
            "PCESVN",
        ),
        (
            extension(tcb=member(2, tlv(0x30, b"".join(tcb_members()).replace(integer(5), b"\x02\x01\x85")))),
            "component 5",
        ),
    ],
)
def test_a_value_out_of_range_is_not_read(der, message):
    with pytest.raises(MalformedError, match=message):
        PckExtension.parse(der)


def test_a_very_long_extension_is_not_decoded():
    with pytest.raises(MalformedError, match="of 4097 bytes is too long") as caught:
        PckExtension.parse(bytes(4097))
    assert caught.value.why == "4096 is most"
    with pytest.raises(MalformedError, match="this is not the SGX extension"):
        PckExtension.parse(bytes(4096))


@given(st.binary(max_size=500))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(MalformedError):
        PckExtension.parse(data)

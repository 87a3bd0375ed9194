"""Conversion between the parts of a Collateral and two JSON forms of a whole set of collateral.

* dcap-qvl's `QuoteCollateralV3` (Rust, Python; npm reads it) has one set, with hexadecimal CRLs and signatures.
* Intel's `platform_collaterals.json`, which PcsClientTool writes and a PCCS receives (PUT /platformcollateral), has
  standard and early sets of many kinds of platforms, for SGX and for TDX. Chains are percent-encoded PEM. Revocation
  lists are hexadecimal DER. TCB info is an object that must be serialized without white space to match Intel's
  signature.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from confcom.errors import MalformedError
from confcom.sgx.signed_json import SIGNATURE_SIZE, JsonObject, SignedJson
from confcom.sgx.tcb_documents import QE_IDENTITY_NAME, TCB_INFO_NAME
from confcom.sgx.tee_type import TeeType

MAX_JSON_SIZE = 32 * 1024 * 1024
"""Largest file in bytes. Intel's form takes 30 KiB for each kind of platform and 2 KiB for each platform."""

TCB_CHAINS = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
"""Headers of TCB info's issuer chain in API version 4 and before; Intel's file uses the same names."""
QE_CHAIN = "SGX-Enclave-Identity-Issuer-Chain"
CRL_CHAIN = "SGX-PCK-CRL-Issuer-Chain"
NUMBERS_CHAIN = "TCB-Evaluation-Data-Numbers-Issuer-Chain"
_PCK_CHAIN = "SGX-PCK-Certificate-Issuer-Chain"
_CRLS = {"PLATFORM": "platformCrl", "PROCESSOR": "processorCrl"}
_TCB_INFOS = {TeeType.SGX: "sgx_tcbinfo", TeeType.TDX: "tdx_tcbinfo"}
_QE_IDENTITIES = {TeeType.SGX: "qeidentity", TeeType.TDX: "tdqeidentity"}
"""Members of Intel's file for API version 4; those of early sets end in `_early`."""


@dataclass(frozen=True, slots=True)
class PlatformKind:
    """Key of a set in a file of many sets: the FMSPC (6 bytes), the PCK CA (PLATFORM or PROCESSOR), and the TEE."""

    fmspc: bytes
    ca: str
    tee: TeeType


def encode_json(parts: Mapping[str, bytes]) -> str:
    """Return the parts of a set in dcap-qvl's form; `parts` is keyed by the parts' names in a Collateral."""
    documents: dict[str, str] = {}
    for name, member in (("tcb_info", TCB_INFO_NAME), ("qe_identity", QE_IDENTITY_NAME)):
        signed = SignedJson.parse(parts[name], member)
        documents |= {name: signed.body.decode(), f"{name}_signature": signed.signature.hex()}
    chains = {name: text.decode() for name, text in parts.items() if name.endswith("_issuer_chain")}
    lists = {name: der.hex() for name, der in parts.items() if name.endswith("_crl")}
    return json.dumps(documents | chains | lists, indent=2)


def decode_json(data: bytes | str, kind: PlatformKind | None = None, *, early: bool = False) -> dict[str, bytes]:
    """Return the parts of a set from either form, keyed by the parts' names in a Collateral.

    `kind` and `early` select a set of Intel's form; `kind` is None if the file has the sets of one kind only.
    """
    if len(data) > MAX_JSON_SIZE:
        raise _malformed(f"it has more than {MAX_JSON_SIZE} bytes")
    try:
        root = JsonObject.of(json.loads(data), "the collateral")
        if root.has("collaterals"):
            return _intel_parts(root.child("collaterals"), kind, early=early)
        return _dcap_qvl_parts(root)
    except (ValueError, RecursionError) as error:
        what = "the collateral in JSON is damaged"
        raise MalformedError(what, error_code="collateral-malformed", why=str(error), remedy="copy it again") from error


def _dcap_qvl_parts(root: JsonObject) -> dict[str, bytes]:
    parts = {}
    for name, member in (("tcb_info", TCB_INFO_NAME), ("qe_identity", QE_IDENTITY_NAME)):
        signature = root.hexadecimal(f"{name}_signature", SIGNATURE_SIZE)
        parts[name] = SignedJson(member, root.text(name).encode(), signature).encode()
        parts[f"{name}_issuer_chain"] = root.text(f"{name}_issuer_chain").encode()
    parts["pck_crl_issuer_chain"] = root.text("pck_crl_issuer_chain").encode()
    return parts | {name: bytes.fromhex(root.text(name)) for name in ("root_ca_crl", "pck_crl")}


def _intel_parts(collaterals: JsonObject, kind: PlatformKind | None, *, early: bool) -> dict[str, bytes]:
    entry = _entry(collaterals, kind)
    tee = kind.tee if kind else _only_tee(entry)
    certificates, lists = collaterals.child("certificates"), collaterals.child("pckcacrl")
    pck_chains = certificates.child(_PCK_CHAIN)
    ca = kind.ca if kind else next((name for name, member in _CRLS.items() if lists.members.get(member)), "PLATFORM")
    info, identity = _TCB_INFOS[tee], _QE_IDENTITIES[tee]
    # If the early and the standard set are the same, the file has the standard set only.
    info = f"{info}_early" if early and entry.has(f"{info}_early") else info
    identity = f"{identity}_early" if early and collaterals.has(f"{identity}_early") else identity
    tcb_chain = next((name for name in TCB_CHAINS if certificates.has(name)), TCB_CHAINS[0])
    return {
        "tcb_info": json.dumps(entry.child(info).members, separators=(",", ":")).encode(),
        "tcb_info_issuer_chain": decode_chain(certificates.text(tcb_chain)),
        "qe_identity": collaterals.text(identity).encode(),
        "qe_identity_issuer_chain": decode_chain(certificates.text(QE_CHAIN)),
        "pck_crl": bytes.fromhex(lists.text(_CRLS[ca])),
        "pck_crl_issuer_chain": decode_chain(pck_chains.text(ca)),
        "root_ca_crl": bytes.fromhex(collaterals.text("rootcacrl")),
    }


def _entry(collaterals: JsonObject, kind: PlatformKind | None) -> JsonObject:
    entries = {entry.hexadecimal("fmspc", 6): entry for entry in collaterals.children("tcbinfos")}
    if kind is None and len(entries) == 1:
        return next(iter(entries.values()))
    found = ", ".join(fmspc.hex() for fmspc in entries) or "none"
    if kind is None:
        raise _malformed(f"it is for several kinds of platforms (FMSPC {found}), and none was chosen: pass the quote")
    if kind.fmspc not in entries:
        raise _malformed(f"it has no TCB info for FMSPC {kind.fmspc.hex()}, but for {found}")
    return entries[kind.fmspc]


def _only_tee(entry: JsonObject) -> TeeType:
    tees = [tee for tee, name in _TCB_INFOS.items() if entry.has(name)]
    if len(tees) > 1:
        raise _malformed("it has a set for SGX and one for TDX, and none was chosen: pass the quote")
    return tees[0] if tees else TeeType.SGX


def decode_chain(text: str) -> bytes:
    """Return an issuer chain as PEM. Percent-encoding is decoded, if any; PEM itself has no percent sign."""
    return re.sub(r"\r\n?", "\n", unquote(text)).encode()


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        "this is no collateral in JSON that could be used",
        error_code="collateral-json",
        why=why,
        remedy="pass what dcap-qvl writes (to_json), or the platform_collaterals.json of Intel's PcsClientTool",
    )

"""Intel's packages and libraries on the node. Pure: lists of packages and paths in, a section out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import Finding, Section

DPKG_STATUS = "/var/lib/dpkg/status"
QUOTE_PROVIDER_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1",
    "/usr/lib64/libdcap_quoteprov.so.1",
    "/usr/lib/libdcap_quoteprov.so.1",
    "/opt/intel/sgx-aesm-service/aesm/libdcap_quoteprov.so.1",
)
AESM_SERVICE = "/opt/intel/sgx-aesm-service/aesm/aesm_service"
QUOTING_ENCLAVES = (
    "/opt/intel/sgx-aesm-service/aesm/libsgx_qe3.signed.so.1",
    "/usr/lib/x86_64-linux-gnu/libsgx_qe3.signed.so.1",
    "/usr/lib64/libsgx_qe3.signed.so.1",
)
LIBRARIES = (*QUOTE_PROVIDER_LIBRARIES, AESM_SERVICE, *QUOTING_ENCLAVES)

MAX_PACKAGES = 200
_NAMES = re.compile(r"(?:lib)?sgx[a-z0-9.+-]*|libdcap[a-z0-9.+-]*|libtdx[a-z0-9.+-]*|(?:az|tee)-dcap[a-z0-9.+-]*")
_VERSION = re.compile(r"[A-Za-z0-9.+:~_-]{1,128}")


def packages_section(*, dpkg: str | None, rpm: str | None, libraries: Iterable[str]) -> Section:
    """Return the packages that dpkg or rpm knows, and which of LIBRARIES are there.

    Args:
        dpkg: content of DPKG_STATUS; None if it cannot be read.
        rpm: lines of name and version, separated by a tab; None if rpm was not asked or failed.
        libraries: those of LIBRARIES that are there.
    """
    present = [*libraries]
    listed = [*(_from_dpkg(dpkg) if dpkg is not None else _from_rpm(rpm or ""))]
    rows: list[Value] = [{"name": name, "version": version} for name, version in sorted(listed)[:MAX_PACKAGES]]
    manager = "dpkg" if dpkg is not None else "rpm" if rpm is not None else None
    return Section(
        "packages",
        {"manager": manager, "packages": rows, "libraries": [*present]},
        tuple(_findings(manager, rows, present)),
    )


def _findings(manager: str | None, rows: list[Value], present: list[str]) -> Iterator[Finding]:
    if manager is None:
        yield Finding(
            code="no-package-list",
            what="neither dpkg nor rpm tells which of Intel's packages are installed",
            do="write the versions of Intel's SGX packages into your message",
        )
    elif not rows:
        yield Finding(
            code="no-intel-packages",
            what=f"{manager} knows none of Intel's SGX packages",
            do="none are needed for EPC; where aesmd runs in a container, write its image's version into your message",
        )
    if AESM_SERVICE in present and not any(path in present for path in QUOTE_PROVIDER_LIBRARIES):
        yield Finding(
            code="no-quote-provider-library",
            what="aesmd is installed without a quote provider library (libdcap_quoteprov.so.1): it makes quotes "
            "without a PCK certificate, which no verifier accepts",
            do="install libsgx-dcap-default-qpl (on Azure: az-dcap-client), and restart aesmd",
        )


def _from_dpkg(status: str) -> Iterator[tuple[str, str]]:
    for block in status.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            yield from _of_intel(fields.get("Package", ""), fields.get("Version", ""))


def _from_rpm(lines: str) -> Iterator[tuple[str, str]]:
    for line in lines.splitlines():
        name, _, version = line.partition("\t")
        yield from _of_intel(name, version)


def _of_intel(name: str, version: str) -> Iterator[tuple[str, str]]:
    if _NAMES.fullmatch(name) and _VERSION.fullmatch(version):
        yield name, version

"""What each section and field of the report means: for its text, its JSON and its reference page. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Described:
    """A section's title, and the meaning of its fields by key."""

    title: str
    fields: Mapping[str, str]


REDACTED = (
    "QE id, PPID (plain and encrypted), platform instance id, serial numbers of certificates, attestation key, "
    "signatures and MACs, report data, MRENCLAVE and MRSIGNER of a quote's enclave, users and passwords in URLs"
)
"""What is left out of every form."""

_ENTRY = "kind, mode, uid, gid and group's name"

SECTIONS: Mapping[str, Described] = MappingProxyType(
    {
        "report": Described(
            "This report",
            {
                "confcom": "version of confcom that made the report",
                "made_at": "UTC, to the minute",
                "other_root": "whether the files are those below --host-root, while CPUID and the caller are not",
            },
        ),
        "processor": Described(
            "Processor, by the instruction CPUID",
            {
                "vendor": "leaf 0; SGX exists on processors of GenuineIntel only",
                "last_leaf": "leaf 0, EAX; SGX is described by leaf 0x12",
                "signature": "leaf 1, EAX: family, model and stepping as Intel writes them",
                "family": "of the signature, with the extended family",
                "model": "of the signature, with the extended model; it decides which SGX this is",
                "stepping": "of the signature",
                "virtual_machine": "leaf 1, ECX bit 31: a hypervisor says that it is one",
                "leaf_7": "the registers of leaf 7, sub-leaf 0",
                "sgx": "leaf 7, EBX bit 2: the processor has SGX, and the firmware has not hidden it",
                "launch_control": "leaf 7, ECX bit 30: the kernel launches enclaves of any signer; its driver needs it",
                "leaf_12": "the registers of leaf 0x12: sub-leaves 0 and 1, and 2 and up until the end of the EPC",
                "sgx_capabilities": "leaf 0x12, sub-leaf 0, EAX: sets of SGX instructions",
                "misc_select": "leaf 0x12, sub-leaf 0, EBX: what an enclave may have reported of exceptions",
                "largest_enclave_64_bit": "leaf 0x12, sub-leaf 0, EDX: bytes of address space of one enclave",
                "enclave_attributes": "leaf 0x12, sub-leaf 1, EBX:EAX: attributes that an enclave may have",
                "enclave_xfrm": "leaf 0x12, sub-leaf 1, EDX:ECX: extended processor state that an enclave may use",
            },
        ),
        "epc": Described(
            "EPC, the enclaves' memory, by each source",
            {
                "sysfs": "bytes per NUMA node that the kernel uses (sgx_total_bytes, kernel 5.17)",
                "sysfs_bytes": "their sum",
                "cpuid": "sections that the processor declares: physical base and bytes",
                "cpuid_bytes": "their sum; 0 without SGX",
                "device_plugin": "what confcom's device plugin would offer and by which source, or the code of why not",
            },
        ),
        "devices": Described(
            "Driver and device nodes",
            {
                "driver": "which driver is loaded: in the kernel (5.11), out of the tree (Intel's), or legacy (isgx)",
                "driver_entries": "its entries in sysfs, from which this is known",
                "nodes": f"the device nodes that are there: path, {_ENTRY}",
                "udev_rules": "names of udev rules about SGX, which set owner and mode of the nodes",
                "groups": "the groups sgx and sgx_prv of this node: gid, and whether the caller is a member",
                "caller_is_root": "whether the command ran as root, who may open every node",
            },
        ),
        "system": Described(
            "Kernel and distribution",
            {
                "kernel": "release of the running kernel; SGX needs 5.11, EPC in sysfs 5.17",
                "distribution": "os-release: ID, VERSION_ID and PRETTY_NAME",
                "microcode": "revision, from /proc/cpuinfo; a part of the platform's TCB",
                "kernel_flags": "of sgx and sgx_lc, those that the kernel uses (/proc/cpuinfo)",
                "switched_off_by": "words of the kernel's command line that switch SGX off; no other word is shown",
                "cgroup_epc_bytes": "EPC that the misc cgroup can limit (misc.capacity); none where it cannot",
            },
        ),
        "packages": Described(
            "Intel's packages and libraries",
            {
                "manager": "whose list of packages was read: dpkg or rpm",
                "packages": "installed packages of Intel's SGX and DCAP software, with versions",
                "libraries": "files of the quote provider library, aesm_service and the quoting enclave",
            },
        ),
        "configuration": Described(
            "Intel's configuration files",
            {
                "files": "which of /etc/sgx_default_qcnl.conf and /etc/aesmd.conf are there",
                "qcnl_syntax": "of /etc/sgx_default_qcnl.conf: JSON, the older key=value, or invalid JSON",
                "qcnl": "its known keys; users, passwords and parameters of URLs and requests are left out",
                "aesmd": "the known keys of /etc/aesmd.conf",
            },
        ),
        "aesm": Described(
            "The AESM service",
            {
                "socket": f"the socket's {_ENTRY}",
                "directory": f"its directory's {_ENTRY}",
                "calls": "each call in order: its outcome (ok, or a code), AESM's number, and seconds until the answer",
                "key_count": "GetSupportedAttKeyIDNum: attestation keys; Intel's aesmd has 1 with a quoting enclave",
                "key_ids": "GetSupportedAttKeyIDs: each key's id; algorithm 2 is ECDSA P-256",
                "pub_key_id": "InitQuoteEx: length of the attestation key's id, which is left out",
                "quoting_enclave": "InitQuoteEx: the quoting enclave as reports are made for it",
                "quote_size": "GetQuoteSizeEx: bytes of a quote; 1456: it has no certificates",
                "wrong_mac_code": "GetQuoteEx of a report with a wrong MAC: right is 47 (confcom's helper: or 42)",
            },
        ),
        "quote": Described(
            "A quote that a tenant got: the quote helper's last one, or --quote",
            {
                "size": "bytes",
                "anatomy": "its fields as in `confcom inspect -o json`; what identifies machine or tenant is left out",
                "warnings": "what is unusual about it",
                "verdict": "of `confcom verify` under Intel's root without collateral, so unusable at best",
                "platform": "genuine if the chain of certificates leads to Intel's root with valid signatures",
                "checks": "the verdict's checks that were made",
            },
        ),
        "files": Described(
            "Files that could not be read",
            {"unread": "path and reason; a file that does not exist is not listed here"},
        ),
    }
)
"""By key, in the order of the report."""

"""Makes the hardware report from its sections; all sources of facts are parameters."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import confcom
from confcom.aesm.errors import AesmError
from confcom.client.address import EXCHANGE_SECONDS, aesm_socket_path
from confcom.client.blocking import AesmClient
from confcom.device_plugin.device_nodes import group_names
from confcom.device_plugin.host import HostFiles
from confcom.errors import ConfcomError, MalformedError, printable
from confcom.hardware_report import Facts, Value, software
from confcom.hardware_report.processor import processor_facts
from confcom.hardware_report.system import device_facts, entry_facts, kernel_facts
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, REPORT_BODY_SIZE, Report

FORMAT: Final = "confcom-hardware-report/1"
HOST = Path("/")
SOCKET_BELOW_ROOT = "run/aesmd/aesm.socket"
"""The socket's path below a node's root. /var/run is often an absolute link, which leads out of the root."""

WRONG_REPORT: Final = Report(bytes(REPORT_BODY_SIZE), key_id=bytes(KEY_ID_SIZE), mac=b"\x5a" * MAC_SIZE)
"""An enclave report that no processor made; a quoting enclave must refuse it, so no quote is made."""


def local_report(environ: Mapping[str, str], *, host_root: Path = HOST, socket: Path | None = None) -> Facts:
    """Report on this machine, or on the node whose root file system is mounted at `host_root`."""
    usual = aesm_socket_path(environ) if host_root == HOST else host_root / SOCKET_BELOW_ROOT
    return collect(HostFiles(host_root), socket or usual)


def collect(
    files: HostFiles,
    socket: Path,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    call_seconds: float = EXCHANGE_SECONDS,
) -> Facts:
    sections: Facts = {
        "report": _guarded(lambda: _report_facts(files, now())),
        "processor": _guarded(lambda: processor_facts(files.cpuid)),
        "kernel": _guarded(lambda: kernel_facts(files)),
        "devices": _guarded(lambda: device_facts(files)),
        "software": _guarded(lambda: _software_facts(files)),
        "aesm": _guarded(lambda: _aesm_facts(files, socket, clock, call_seconds)),
    }
    return {"format": FORMAT, "sections": sections | {"unread": {**files.unread}}}


def _guarded(read: Callable[[], Facts]) -> Facts:
    """Read a section. If a bug appears on a machine that we cannot test, only this section is lost."""
    try:
        return read()
    except ConfcomError as error:
        return {"failed": error.error_code}
    except Exception as error:  # noqa: BLE001
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"failed": f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"}


def _report_facts(files: HostFiles, now: datetime) -> Facts:
    return {
        "confcom": confcom.__version__,
        "made_at": now.strftime("%Y-%m-%dT%H:%MZ"),
        "other_root": files.root != HOST,
        "uid": os.getuid(),
    }


def _software_facts(files: HostFiles) -> Facts:
    texts = {path: files.read_text(path) for path in (software.QCNL, software.AESMD)}
    return {
        "packages": software.package_facts(files.read_text(software.DPKG_STATUS)),
        "libraries": [path for path in software.LIBRARIES if files.exists(path)],
        "configuration": {path: software.configuration_facts(text) for path, text in texts.items()},
    }


def _aesm_facts(files: HostFiles, socket: Path, clock: Callable[[], float], call_seconds: float) -> Facts:
    """Make each AESM call once, in a client's usual order. Stop after the first unanswered call."""
    groups, here = group_names(files), HostFiles(HOST, files.unread)
    paths = {"socket": socket.absolute(), "directory": socket.parent.absolute()}
    facts: Facts = {name: entry_facts(here, str(path), groups) for name, path in paths.items()}
    client = AesmClient(socket, timeout=call_seconds)
    rows: list[Value] = []
    for call, ask in _CALLS.items():
        started = clock()
        outcome, code, answered = "ok", 0, True
        try:
            facts |= ask(client)
        except ConfcomError as error:
            outcome, code = error.error_code, error.code if isinstance(error, AesmError) else 0
            answered = isinstance(error, AesmError | MalformedError)
        rows.append({"call": call, "outcome": outcome, "code": code, "seconds": round(clock() - started, 4)})
        if not answered:
            break  # later calls would also wait for their whole time limit
    return facts | {"calls": rows}


def _key_ids(client: AesmClient) -> Facts:
    return {
        "key_ids": [
            {"id": key.id, "version": key.version, "algorithm": key.algorithm_id, "prod_id": key.prod_id}
            for key in client.supported_key_ids()
        ]
    }


def _quoting_enclave(client: AesmClient) -> Facts:
    target = client.init_quote().target_info  # the public key id is left out: it identifies the machine
    return {
        "quoting_enclave": {
            "mr_enclave": target.mr_enclave.hex(),
            "attributes": f"{target.flags:#x}",
            "xfrm": f"{target.xfrm:#x}",
            "misc_select": f"{target.misc_select:#x}",
            "config_svn": target.config_svn,
        }
    }


def _wrong_report(client: AesmClient) -> Facts:
    client.get_quote(WRONG_REPORT)
    return {}


_CALLS: Final[dict[str, Callable[[AesmClient], Facts]]] = {
    "GetSupportedAttKeyIDs": _key_ids,
    "InitQuoteEx": _quoting_enclave,
    "GetQuoteSizeEx": lambda client: {"quote_size": client.quote_size()},
    "GetQuoteEx (wrong MAC)": _wrong_report,
}


def text_lines(facts: Facts, indent: str = "") -> Iterator[str]:
    for key, value in facts.items():
        head = f"{indent}{printable(key)}:"
        if isinstance(value, dict) and value:
            yield head
            yield from text_lines(value, f"{indent}  ")
        elif isinstance(value, list) and any(isinstance(row, dict) for row in value):
            yield head
            yield from (f"{indent}  - {_inline(row)}" for row in value)
        else:
            yield f"{head} {_inline(value)}"


def _inline(value: Value) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{printable(key)}={_inline(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else printable(str(value))

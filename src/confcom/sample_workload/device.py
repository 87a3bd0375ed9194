"""The SGX device node, which is opened as an enclave loader opens it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confcom.errors import UnavailableError


class NoEnclaveDeviceError(UnavailableError):
    """The container has no usable SGX device node, which is needed to load enclaves."""

    error_code = "no-enclave-device"


@contextmanager
def open_enclave_device(candidates: Sequence[Path]) -> Iterator[Path]:
    """Open the first existing candidate for reading and writing, and close it at the end of the `with` block.

    Raises:
        NoEnclaveDeviceError: none exists, it is not a character device, or this user may not open it.
    """
    path, descriptor = _open_first(candidates)
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise NoEnclaveDeviceError(
                f"{path} is not a device",
                error_code="not-a-device",
                why="something else was created or mounted there",
                remedy="let the device plugin provide it; do not mount it as a volume",
            )
        yield path
    finally:
        os.close(descriptor)


def _open_first(candidates: Sequence[Path]) -> tuple[Path, int]:
    for path in candidates:
        try:
            return path, os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise NoEnclaveDeviceError(
                f"the SGX device {path} cannot be opened",
                error_code="sgx-device-unusable",
                why=error.strerror or str(error),
                remedy="check its mode (0666 on most systems) and the container's device permissions",
            ) from error
    raise NoEnclaveDeviceError(
        f"no SGX device exists here ({', '.join(map(str, candidates))})",
        error_code="no-sgx-device",
        why="a container gets one only if it requests enclave memory and its node runs a device plugin",
        remedy="put kubernetes.azure.com/sgx_epc_mem_in_MiB into resources.limits, and check that the SGX device "
        "plugin runs on the node",
    )

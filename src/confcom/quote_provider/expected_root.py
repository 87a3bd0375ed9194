"""The root key in which the certificate chain of every hardware quote must end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.errors import MalformedError, SettingsError
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID, MAX_ROOT_SIZE, PEM_BEGIN, key_id, load_certificate
from confcom.sgx.certification import split_pem_chain


@dataclass(frozen=True, slots=True)
class ExpectedRoot:
    key_id: bytes
    """SHA-384 of the root key's public point: 48 bytes."""

    @property
    def is_intel(self) -> bool:
        return self.key_id == INTEL_ROOT_KEY_ID

    def __str__(self) -> str:
        """Return the root's name for logs, which distinguishes a test root from Intel's."""
        return "Intel's root" if self.is_intel else f"TEST ROOT {self.key_id.hex()[:16]}, never genuine"


INTEL_ROOT: Final = ExpectedRoot(INTEL_ROOT_KEY_ID)


def read_expected_root(path: Path) -> ExpectedRoot:
    """Read the root for tests from a file with exactly one certificate, PEM or DER."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ROOT_SIZE)
        certificates = split_pem_chain(data) if PEM_BEGIN in data else (data,)
        if len(certificates) != 1:
            raise MalformedError(f"it holds {len(certificates)} certificates", error_code="several-certificates")
        return ExpectedRoot(key_id(load_certificate(certificates[0], "the root certificate")))
    except (OSError, MalformedError) as error:
        raise SettingsError(
            f"{path} is not a root certificate",
            error_code="expected-root-unusable",
            why=str(error),
            remedy="give --expected-root a file with exactly one certificate, PEM or DER",
        ) from error

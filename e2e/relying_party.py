"""A relying party outside of the cluster, which verifies quotes by CLI or library, with a root exported once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confcom.verify.files import read_collateral, read_root
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.verifier import verify_quote
from e2e.add_on import HERE
from e2e.cluster import Cluster
from e2e.confcom_command import document_of
from e2e.load.client import ENCLAVE

CONFCOM = (sys.executable, "-m", "confcom")
Quoted = tuple[bytes, bytes]
"""A quote, and the report data that the quote must contain."""
NO_CHALLENGE = "00" * 64
"""Report data of a sample workload without a challenge."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """A relying party that trusts the sample workload and what `confcom simulation export` wrote."""

    trust: Path
    mr_enclave: str

    @classmethod
    def of(cls, cluster: Cluster, folder: Path) -> RelyingParty:
        cluster.run([*CONFCOM, "simulation", "export", HERE, str(folder)])
        return cls.of_folder(folder)

    @classmethod
    def of_folder(cls, folder: Path) -> RelyingParty:
        asked = [sys.executable, "-m", "confcom.sample_workload", "--print-identity"]
        identity = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        return cls(folder, identity["mr_enclave"])

    @property
    def root(self) -> bytes:
        return (self.trust / "root.pem").read_bytes()

    def verify(self, quote: bytes, challenge: str) -> dict[str, Any]:
        verdict = self.verdict(quote, challenge)
        assert verdict.get("ok"), verdict
        return verdict

    def trusts(self, quote: bytes, challenge: str) -> bool:
        return bool(self.verdict(quote, challenge).get("ok"))

    def complaints(self, quotes: Sequence[Quoted]) -> list[str]:
        """Reasons why some quotes of a load's clients do not verify; empty if all quotes verify."""
        root, collateral = read_root(self.trust / "root.pem"), read_collateral(self.trust / "collateral")
        now, enclave, signer = datetime.now(UTC), ENCLAVE.mr_enclave, ENCLAVE.mr_signer
        found = []
        for quote, report_data in quotes:
            policy = SgxPolicy(mr_enclave=enclave, mr_signer=signer, report_data=report_data, allow_simulated=True)
            verdict = verify_quote(quote, root, collateral, policy, now)
            if not verdict.ok:
                found.append(f"{report_data.hex()[:16]}: {verdict.failures}")
        return found

    def verdict(self, quote: bytes, challenge: str) -> dict[str, Any]:
        trust = ["--root", str(self.trust / "root.pem"), "--collateral", str(self.trust / "collateral")]
        policy = ["--mrenclave", self.mr_enclave, "--report-data", challenge, "--allow-simulated"]
        file = self.trust / f"{challenge[:16]}.bin"
        file.write_bytes(quote)
        command = [*CONFCOM, "verify", str(file), *trust, *policy, "--output", "json"]
        return document_of(subprocess.run(command, capture_output=True, text=True, check=False))

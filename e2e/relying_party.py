"""Who verifies quotes outside of the cluster, by the CLI, and trusts what was exported once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.add_on import SYSTEM
from e2e.cluster import Cluster

CONFCOM = (sys.executable, "-m", "confcom")
NO_CHALLENGE = "00" * 64
"""The report data of a sample workload that was given no challenge."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """It trusts a folder that `confcom simulation export` made, and the sample workload's enclave."""

    trust: Path
    mr_enclave: str

    @classmethod
    def of(cls, cluster: Cluster, folder: Path) -> RelyingParty:
        cluster.run([*CONFCOM, "simulation", "export", f"--namespace={SYSTEM}", str(folder)])
        return cls.of_folder(folder)

    @classmethod
    def of_folder(cls, folder: Path) -> RelyingParty:
        """Trust what was exported to a folder."""
        asked = [sys.executable, "-m", "confcom.sample_workload", "--print-identity"]
        identity = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        return cls(folder, identity["mr_enclave"])

    @property
    def root(self) -> bytes:
        return (self.trust / "root.pem").read_bytes()

    def verify(self, quote: bytes, challenge: str) -> dict[str, Any]:
        done = self._verified(quote, challenge)
        assert done.returncode == 0, done.stdout + done.stderr
        verdict: dict[str, Any] = json.loads(done.stdout)
        return verdict

    def trusts(self, quote: bytes, challenge: str) -> bool:
        return self._verified(quote, challenge).returncode == 0

    def _verified(self, quote: bytes, challenge: str) -> subprocess.CompletedProcess[str]:
        trust = ["--root", str(self.trust / "root.pem"), "--collateral", str(self.trust / "collateral")]
        policy = ["--mrenclave", self.mr_enclave, "--report-data", challenge, "--allow-simulated"]
        file = self.trust / f"{challenge[:16]}.bin"
        file.write_bytes(quote)
        command = [*CONFCOM, "verify", str(file), *trust, *policy, "--output", "json"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

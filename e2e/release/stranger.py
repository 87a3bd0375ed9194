"""A person with the files of a release and the documentation, and without the repository."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Cluster, tools
from e2e.cluster.node import run_entering
from e2e.images import Built
from e2e.registry import ADDRESS
from testkit.documentation import blocks_of

PASSWORD = "throw-away"
VERIFY, PUBLISH = "docs/how-to/verify-what-you-install.md", "docs/contributing/make-a-release.md"
SECONDS = 600.0

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Stranger:
    """`folder` has the release's files; on the stand-in base, `suffix` is in place of the version."""

    folder: Path
    version: str
    suffix: str

    @property
    def wheel(self) -> Path:
        return next(self.folder.glob("*.whl"))

    @property
    def confcom(self) -> str:
        """The program that the page installs."""
        return str(self.folder / "venv" / "bin" / "confcom")

    @property
    def images(self) -> Built:
        return Built(self.folder)

    def commands(self, page: str, heading: str) -> str:
        """The commands below a heading, with the registry and the file names of this release."""
        text = "\n".join(blocks_of(page, heading, "sh"))
        for name in ("images-{}", "chart-{}", "{}.lock"):
            text = text.replace(f"confcom-{name}".format(self.version), f"confcom-{name}".format(self.suffix))
        text = text.replace(f"confcom-{self.version}-py3-none-any.whl", self.wheel.name)
        text = text.replace("docker://", "--dest-tls-verify=false docker://")  # the registry has no TLS
        return re.sub(r"^helm \w+", r"\g<0> --plain-http", text.replace("REGISTRY", ADDRESS), flags=re.MULTILINE)

    def paste(self, script: str, cluster: Cluster | None = None) -> Done:
        """Run lines in the folder, on this machine or where the cluster's registry is."""
        started = ["bash", "-euo", "pipefail", "-c", f"cd {self.folder}\n{script}"]
        cosign = tools.build("cosign")
        environ = {"COSIGN_PASSWORD": PASSWORD}
        if cluster:
            environ |= {**cluster.environment, "PATH": f"{cosign}:{cluster.environment['PATH']}"}
            return run_entering(cluster.pid, started, environ, check=False, timeout=SECONDS)
        environ |= {**os.environ, "PATH": f"{cosign}:{os.environ['PATH']}"}
        return subprocess.run(started, capture_output=True, text=True, env=environ, timeout=SECONDS, check=False)


def said(done: Done) -> str:
    return (done.stdout + done.stderr).strip()


def ok(done: Done) -> str:
    """Output of a command that must succeed."""
    assert done.returncode == 0, said(done)
    return said(done)

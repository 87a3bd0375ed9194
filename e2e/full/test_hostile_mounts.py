"""A Pod with a hostPath volume of the AESM socket's directory blocks it, by malice or by mistake."""

import json
import secrets
import stat
from pathlib import PurePosixPath

import pytest

from e2e.add_on import EPC, HELPER, HERE, daemons
from e2e.cluster.addresses import NODE_NAME
from e2e.tenants import container, pod, quoting_pod
from e2e.waiting import until

DIRECTORY = "/var/run/aesmd"
NOBODY = {"runAsUser": 1000, "runAsGroup": 1000}
"""A user who is neither root nor the helper's user."""
CLOSE = f"import os; os.chmod('{DIRECTORY}', 0o700); os.chmod('{DIRECTORY}/aesm.socket', 0o600)"


@pytest.mark.timeout(420, func_only=True)
def test_a_directory_that_a_pod_has_closed_is_opened_again(installed, tenant):
    # /var/run is a link to /run, which leads to this machine's own /run.
    directory = installed.node.inside(PurePosixPath("/run/aesmd"))
    closing = container("main", program=CLOSE, volumeMounts=[{"name": "host", "mountPath": DIRECTORY}])
    volumes = [{"name": "host", "hostPath": {"path": DIRECTORY}}]
    root = {"runAsUser": 0, "runAsGroup": 0}
    tenant.create(pod("closing", closing, node=NODE_NAME, volumes=volumes, securityContext=root))
    tenant.wait_for_phase("closing", "Succeeded")
    until(lambda: stat.S_IMODE(directory.stat().st_mode) == 0o755, "the helper sets the directory's mode back")
    until(lambda: stat.S_IMODE((directory / "aesm.socket").stat().st_mode) == 0o666, "and the socket's")
    tenant.create(quoting_pod("after", secrets.token_hex(8), {EPC: 1}, node=NODE_NAME, securityContext=NOBODY))
    tenant.wait_for_phase("after", "Succeeded")
    assert tenant.quote("after")
    (helper,) = daemons(installed, HELPER)
    lines = installed.kubectl("logs", HERE, helper["metadata"]["name"]).stdout.splitlines()
    assert any(json.loads(line).get("event") == "mode-restored" for line in lines if line.startswith("{"))

"""The cluster itself is what the other cases take it for."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from e2e.cluster import Cluster
from e2e.cluster.addresses import API_SERVICE_ADDRESS, NODE_NAME
from e2e.images_workshop import references
from e2e.waiting import until

ASK_THE_API = f"""
import ssl
from urllib.request import Request, urlopen
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
trust = ssl.create_default_context(cafile=f"{{folder}}/ca.crt")
bearer = {{"Authorization": "Bearer " + open(f"{{folder}}/token").read()}}
print(urlopen(Request("https://{API_SERVICE_ADDRESS}/version", headers=bearer), context=trust).read().decode())
"""


def pod(name: str, *command: str) -> str:
    container = {
        "name": "main",
        "image": references("sample-workload")[0],
        "imagePullPolicy": "Never",
        "command": ["python", "-c", *command],
    }
    specification = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": specification})


def test_a_pod_reaches_the_api_at_its_service(cluster: Cluster, namespace: str) -> None:
    here = f"--namespace={namespace}"
    cluster.kubectl("apply", here, "--filename=-", input=pod("asks", ASK_THE_API))
    cluster.kubectl("wait", here, "--for=jsonpath={.status.phase}=Succeeded", "pod/asks", "--timeout=60s")

    answer = json.loads(cluster.kubectl("logs", here, "asks").stdout)

    node = cluster.kubectl_json("get", "node", NODE_NAME)
    assert answer["gitVersion"] == node["status"]["nodeInfo"]["kubeletVersion"]


def test_pods_outlive_the_kubelet(cluster: Cluster, namespace: str) -> None:
    here = f"--namespace={namespace}"
    cluster.kubectl("apply", here, "--filename=-", input=pod("stays", "import time; time.sleep(600)"))
    cluster.kubectl("wait", here, "--for=condition=Ready", "pod/stays", "--timeout=60s")

    cluster.kubelet_restart()

    inside = ["exec", here, "stays", "--", "python", "-c", "print(6 * 7)"]
    assert until(lambda: cluster.kubectl(*inside).stdout, "the kubelet knows its pods again") == "42\n"
    status = cluster.kubectl_json("get", here, "pod", "stays")["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0


def test_run_and_dev_are_the_nodes_own(cluster: Cluster) -> None:
    name = f"confcom-e2e-{secrets.token_hex(4)}"
    for folder in ("/run", "/dev", "/var", "/var/run"):
        cluster.run(["touch", f"{folder}/{name}"])
        assert not (Path(folder) / name).exists()
        cluster.run(["rm", f"{folder}/{name}"])

"""The controller's client of the API server, beside an API server that a test plays."""

from lightkube import KubeConfig
from lightkube.config.models import Cluster, User

from confcom.controller.api_server.cluster_api import ClusterApi, client_of
from testkit.controller_objects import EPC

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def api_of(transport, server="http://api.test"):
    """The API server that a transport of httpx2 plays."""
    config = KubeConfig.from_one(cluster=Cluster(server=server), user=User()).get()
    return ClusterApi(client_of(config, transport), (EPC,))

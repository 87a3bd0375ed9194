"""Names that several parts of the add-on use: resources, components, labels, the field manager. Pure."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

RELEASE = "confcom"
"""The release's name, and the value of the name label on all objects of the chart."""
DEFAULT_NAMESPACE = "confcom-system"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
INSTANCE_LABEL = "app.kubernetes.io/instance"
VERSION_LABEL = "app.kubernetes.io/version"
FIELD_MANAGER = "confcom-controller"
"""The field manager of the controller's writes: by it, the API server records who changed a field last."""
AESM_DIRECTORY = "/var/run/aesmd"
"""Where AESM clients look for the socket. Containers mount the directory and not the socket file, which
would be stale after the quote helper's next start."""


class Component(StrEnum):
    """The add-on's programs, by their component label: two node daemons, and two with a Deployment."""

    DEVICE_PLUGIN = "device-plugin"
    QUOTE_HELPER = "quote-helper"
    CONTROLLER = "controller"
    SIMULATED_PCS = "simulated-pcs"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


def component(labels: Mapping[str, str]) -> Component | None:
    """Return the component of an object with these labels; None for an object that is not the chart's."""
    if labels.get(NAME_LABEL) != RELEASE:
        return None
    # Beside hardware, the label of simulated nodes' DaemonSets has a suffix: device-plugin-simulated.
    label = str(labels.get(COMPONENT_LABEL))
    return next((one for one in Component if label == one or label.startswith(f"{one}-")), None)


class ResourceSet(NamedTuple):
    epc: str
    enclave: str
    provision: str
    helper: str


REAL = ResourceSet(
    epc="kubernetes.azure.com/sgx_epc_mem_in_MiB",
    enclave="sgx.intel.com/enclave",
    provision="sgx.intel.com/provision",
    helper="confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""AKS' name of EPC, which existing manifests use; Intel's names of the device nodes; and our name for the
quote helper's own EPC. `.internal` is reserved for private use (ICANN, 2024), so no one can own the name."""
SIMULATED = ResourceSet(
    epc="simulated.confcom.internal/sgx_epc_mem_in_MiB",
    enclave="simulated.confcom.internal/enclave",
    provision="simulated.confcom.internal/provision",
    helper="simulated.confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""The names that simulated nodes offer in a cluster with hardware nodes (`simulated.besideHardware`)."""
SETS = (REAL, SIMULATED)
OURS = frozenset(name for names in SETS for name in names)
SHARED = frozenset({REAL.enclave, REAL.provision})
"""Names that other vendors' plugins offer too, also on nodes that never ran the add-on."""
INTEL_EPC = "sgx.intel.com/epc"
"""The resource name under which Intel's plugin offers EPC, in bytes."""

MAX_SUBDOMAIN = 253
"""Maximum characters of the part before the slash, including the prefix `requests.` that quotas add (RFC 1123)."""
MAX_LABEL = 63
"""Maximum characters of the part after the slash (RFC 1123)."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
"""A DNS label and a DNS subdomain, as in Kubernetes' own patterns."""
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def extended_resource(name: str) -> bool:
    """Return whether a device plugin may use this resource name; the kubelet and the demo refuse other names.

    Follows IsExtendedResourceName of Kubernetes (pkg/apis/core/helper, pkg/apis/core/v1/helper).
    """
    domain, slash, rest = name.partition("/")
    return bool(
        slash
        and "kubernetes.io/" not in name
        and not name.startswith("requests.")
        and len(f"requests.{domain}") <= MAX_SUBDOMAIN
        and re.fullmatch(SUBDOMAIN, domain)
        and len(rest) <= MAX_LABEL
        and re.fullmatch(_NAME, rest)
    )

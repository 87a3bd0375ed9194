"""Names that several parts of the add-on use: resources, components, labels, the field manager. No I/O."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

RELEASE = "confcom"
"""The name of the helm release, which is also the value of the name label on all objects of the chart."""
DEFAULT_NAMESPACE = "confcom-system"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
INSTANCE_LABEL = "app.kubernetes.io/instance"
VERSION_LABEL = "app.kubernetes.io/version"
FIELD_MANAGER = "confcom-controller"
"""The field manager of the controller's writes. The API server records which manager last changed a field."""
AESM_DIRECTORY = "/var/run/aesmd"
"""The directory in which AESM clients look for the socket. Containers mount this directory: a mounted socket
file would be stale after the quote helper's next start."""


class Component(StrEnum):
    """The values of the component label: one each for the add-on's two node daemons and two Deployments."""

    DEVICE_PLUGIN = "device-plugin"
    QUOTE_HELPER = "quote-helper"
    CONTROLLER = "controller"
    SIMULATED_PCS = "simulated-pcs"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


def component(labels: Mapping[str, str]) -> Component | None:
    """Return the component of an object with these labels; None if the object is not from the chart."""
    if labels.get(NAME_LABEL) != RELEASE:
        return None
    # If hardware nodes exist, the labels of simulated DaemonSets have a suffix: device-plugin-simulated.
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
"""AKS' name for EPC (existing manifests use it), Intel's names for the device nodes, and our name for the
quote helper's own EPC. `.internal` is reserved for private use (ICANN, 2024), so no one can own our name."""
SIMULATED = ResourceSet(
    epc="simulated.confcom.internal/sgx_epc_mem_in_MiB",
    enclave="simulated.confcom.internal/enclave",
    provision="simulated.confcom.internal/provision",
    helper="simulated.confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""The names of simulated nodes' resources in a cluster with hardware nodes (`simulated.besideHardware`)."""
SETS = (REAL, SIMULATED)
OURS = frozenset(name for names in SETS for name in names)
SHARED = frozenset({REAL.enclave, REAL.provision})
"""Resource names that other vendors' plugins offer too, even on nodes that never ran the add-on."""
INTEL_EPC = "sgx.intel.com/epc"
"""The resource name under which Intel's plugin offers EPC, in bytes."""

MAX_SUBDOMAIN = 253
"""Maximum length of a name before the slash, including the prefix `requests.` that quotas add (RFC 1123)."""
MAX_LABEL = 63
"""Maximum length of a resource name after the slash (RFC 1123)."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
"""Patterns of a DNS label and a DNS subdomain, the same as in Kubernetes."""
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def extended_resource(name: str) -> bool:
    """Return whether a device plugin may use this resource name. The kubelet and the demo refuse other names.

    The rules are those of Kubernetes' IsExtendedResourceName (pkg/apis/core/helper, pkg/apis/core/v1/helper).
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

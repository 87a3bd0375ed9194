"""Table of admission patterns: some are adapted from manifests of other projects, and some are made up."""

from __future__ import annotations

from typing import Final

from e2e.admission.pattern import (
    AESM,
    BUDGET,
    BYTES,
    ENCLAVE,
    HELPER_EPC,
    MIB,
    PROVIDER,
    PROVISION,
    SIMULATED_ENCLAVE,
    SIMULATED_MIB,
    Made,
    Manifest,
    Pattern,
    app,
    container,
    epc,
    pod,
)

DIRECTORY: Final = {"name": "aesmd", "hostPath": {"path": "/var/run/aesmd"}}
MOUNT: Final = [{"name": "aesmd", "mountPath": "/var/run/aesmd"}]
POOL: Final = {"key": "agentpool", "operator": "In", "values": ["confidential"]}
AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [POOL]}]}
    }
}
FIELD: Final = {"name": BUDGET, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def same(limits: dict[str, object], **more: object) -> Manifest:
    return app(limits, resources={"limits": limits, "requests": limits}, **more)


IN_THE_WILD: Final = (
    Pattern(
        "the number of MiB",
        pod(container("app", {MIB: 10}), affinity=AFFINITY),
        {"app": epc(10)},
        used="Azure's AKS samples",
    ),
    Pattern("the number in quotes", same({MIB: "5"}), {"app": epc(5)}, used="Azure's quick starts"),
    Pattern(
        "Intel's name and the host's directory",
        pod(
            container("app", resources={"limits": {BYTES: "10Mi"}, "requests": {BYTES: "10Mi"}}, volumeMounts=MOUNT),
            volumes=[DIRECTORY],
        ),
        {"app": epc(10)},
        used="Azure's helloworld and attested_tls",
    ),
    Pattern("Intel's name alone", app({BYTES: "512Ki"}), {"app": epc(1)}, used="Intel's demo Job"),
    Pattern(
        "Intel's three names",
        app({BYTES: "10Mi", ENCLAVE: 1, PROVISION: 1}),
        {"app": Made({MIB: "10", ENCLAVE: "1", PROVISION: "1"}, {BUDGET: "10"})},
        trusted=True,
        used="charts for Intel's plugin, as MarbleRun's",
    ),
    Pattern(
        "Intel's three names where provision is not allowed",
        app({BYTES: "10Mi", ENCLAVE: 1, PROVISION: 1}),
        refused=f"container app asks for {PROVISION}, which namespace",
        used="charts for Intel's plugin, as MarbleRun's",
    ),
    Pattern("the device alone", app({ENCLAVE: 1}), {"app": Made({ENCLAVE: "1"})}, used="Azure's Spark sample"),
    Pattern(
        "another vendor's name",
        app({"sgx.k8s.io/sgx": 1}),
        {"app": Made({"sgx.k8s.io/sgx": "1"})},
        used="SCONE's charts",
    ),
    Pattern(
        "a variable that is a number",
        app({MIB: 10}, env={AESM: 1}),
        refused="json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        used="Azure's documentation",
    ),
    Pattern(
        "the annotation aesmd",
        pod(container("app", {BYTES: "10Mi"}), annotations={PROVIDER: "aesmd"}),
        {"app": Made({MIB: "10", ENCLAVE: "1"}, {AESM: "1", BUDGET: "10"})},
        used="Intel's demo, MarbleRun's guide for Gramine",
    ),
    Pattern(
        "the annotation aesmd, variable set already",
        pod(container("app", {BYTES: "10Mi"}, env={AESM: "0"}), annotations={PROVIDER: "aesmd"}),
        {"app": epc(10, **{AESM: "0"})},
        used="Intel's demo, MarbleRun's guide for Gramine",
    ),
    Pattern(
        "the annotation with a container's name",
        pod(container("app", {BYTES: "10Mi"}), container("other", {BYTES: "1Mi"}), annotations={PROVIDER: "app"}),
        {"app": Made({MIB: "10", ENCLAVE: "1", PROVISION: "1"}, {BUDGET: "10"}), "other": epc(1)},
        trusted=True,
        used="Intel's demo of quotes in process",
    ),
    Pattern(
        "the annotation where provision is not allowed",
        pod(container("app", {BYTES: "10Mi"}), annotations={PROVIDER: "app"}),
        {"app": epc(10)},
        warned=f"container app does not get {PROVISION}",
        used="Intel's demo of quotes in process",
    ),
    Pattern(
        "the variable and the volume, the resource by an injector",
        pod(container("app", env={AESM: "1"}, volumeMounts=MOUNT), volumes=[DIRECTORY]),
        {"app": Made({}, {AESM: "1"})},
        used="Pods for MarbleRun's injector",
    ),
)
"Patterns in people's manifests. Programs that inject EPC into Pods have cases of their own."
AMOUNTS: Final = (
    Pattern("bytes, rounded up", app({BYTES: 5242881}), {"app": epc(6)}),
    Pattern("a round number is a plain literal", app({BYTES: "2000Mi"}), {"app": epc(2000)}),
    Pattern("no bytes", app({BYTES: 0}), {"app": Made()}),
    Pattern("no MiB", app({MIB: 0}), {"app": Made({MIB: "0"})}),
    Pattern(
        "both names, more MiB",
        app({BYTES: "10Mi", MIB: 70}),
        {"app": epc(70)},
        warned="container app asks for EPC by both",
    ),
    Pattern(
        "both names, more bytes",
        app({BYTES: "70Mi", MIB: 10}),
        {"app": epc(70)},
        warned="container app asks for EPC by both",
    ),
    Pattern("all devices of a node", app({ENCLAVE: 1024}), refused=f"another number of {ENCLAVE} than 1"),
    Pattern("EPC and no device", app({MIB: 1, ENCLAVE: 0}), refused=f"another number of {ENCLAVE} than 1"),
    Pattern("no device", app({ENCLAVE: 0}), {"app": Made({ENCLAVE: "0"})}),
    Pattern("a negative amount", app({BYTES: "-1Mi"}), refused="must be greater than or equal to 0"),
    Pattern("half a byte", app({BYTES: "1.5"}), refused="must be an integer"),
    Pattern("more bytes than there are", app({BYTES: "2Ei"}), refused="than the 1048576Mi that a node may have"),
    Pattern(
        "10Mi where MiB are counted",
        app({MIB: "10Mi"}),
        refused=f"{MIB} counts MiB already. For 10Mi of memory write 10.",
    ),
    Pattern("1Mi where MiB are counted", app({MIB: "1Mi"}), refused="For 1Mi of memory write 1."),
    Pattern("1M, which is a million", app({MIB: "1M"}), refused="For 1M of memory write 1."),
    Pattern("1025Gi", app({MIB: "1025Gi"}), refused=f"{MIB} counts MiB already. No node has"),
    Pattern("all of a node of 1 TiB", app({MIB: 1048576}), {"app": epc(1048576)}),
    Pattern("more MiB than any node has", app({MIB: 1048577}), refused="already. No node has more than"),
    Pattern("EPC of the quote helpers", app({HELPER_EPC: 1}), refused=f"asks for {HELPER_EPC}, which is set aside"),
    Pattern("none of either", app({PROVISION: 0, HELPER_EPC: 0}), {"app": Made({PROVISION: "0", HELPER_EPC: "0"})}),
)
CONTAINERS: Final = (
    Pattern(
        "an init container and a main one",
        pod(container("app", {BYTES: "10Mi"}), initContainers=[container("before", {BYTES: "20Mi"})]),
        {"before": epc(20), "app": epc(10)},
    ),
    Pattern(
        "provision in an init container",
        pod(container("app"), initContainers=[container("before", {PROVISION: 1})]),
        refused=f"container before asks for {PROVISION}, which namespace",
    ),
    Pattern("variables before", app({BYTES: "10Mi"}, env={"OTHER": "x"}), {"app": epc(10, OTHER="x")}),
    Pattern(
        "the budget from elsewhere",
        pod(container("app", {BYTES: "10Mi"}) | {"env": [FIELD]}),
        {"app": Made({MIB: "10", ENCLAVE: "1"}, {BUDGET: None})},
    ),
    Pattern(
        "admitted before",
        pod(container("app", {MIB: 10, ENCLAVE: 1}, env={BUDGET: "10"})),
        {"app": epc(10)},
        used="exports of running Pods",
    ),
    Pattern(
        "admitted before, then edited",
        pod(container("app", {MIB: 20, ENCLAVE: 1}, env={"OTHER": "x", BUDGET: "10"})),
        {"app": Made({MIB: "20", ENCLAVE: "1"}, {"OTHER": "x", BUDGET: "20"})},
        used="exports of running Pods",
    ),
    Pattern(
        "a mirror Pod",
        pod(container("app", {BYTES: "10Mi"}), annotations={"kubernetes.io/config.mirror": "x"}, nodeName="nowhere"),
        {"app": Made({BYTES: "10Mi"})},
        used="the kubelet, of its static Pods",
    ),
    Pattern(
        "the socket file",
        pod(
            container("app", {BYTES: "10Mi"}, volumeMounts=[{"name": "s", "mountPath": "/var/run/aesmd/aesm.socket"}]),
            volumes=[{"name": "s", "hostPath": {"path": "/var/run/aesmd/aesm.socket"}}],
        ),
        {"app": epc(10)},
        warned="volume s is the socket file itself",
    ),
    Pattern(
        "the socket file by a subPath",
        pod(
            container(
                "app", {MIB: 10}, volumeMounts=[{"name": "aesmd", "mountPath": "/run/aesm", "subPath": "aesm.socket"}]
            ),
            volumes=[DIRECTORY],
        ),
        {"app": epc(10)},
        warned="a volume of container app is the socket file itself",
    ),
)
PATTERNS: Final = (*IN_THE_WILD, *AMOUNTS, *CONTAINERS)
BESIDE_HARDWARE: Final = (
    Pattern(
        "MiB of a simulated node",
        app({SIMULATED_MIB: 10}),
        {"app": Made({SIMULATED_MIB: "10", SIMULATED_ENCLAVE: "1"}, {BUDGET: "10"})},
    ),
    Pattern(
        "simulated, the annotation aesmd",
        pod(container("app", {SIMULATED_MIB: 10}), annotations={PROVIDER: "aesmd"}),
        {"app": Made({SIMULATED_MIB: "10", SIMULATED_ENCLAVE: "1"}, {AESM: "1", BUDGET: "10"})},
    ),
    Pattern("Intel's name is hardware's", app({BYTES: "10Mi"}), {"app": epc(10)}),
    Pattern("10Mi of a simulated node", app({SIMULATED_MIB: "10Mi"}), refused=f"{SIMULATED_MIB} counts MiB already"),
)
"Patterns for simulated nodes whose resources have names of their own."

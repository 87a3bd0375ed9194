"""Steps 1 to 4: a platform, the daemons, the seed's Job, and the quote that leaves its container."""

from __future__ import annotations

import base64
import binascii

from confcom.playground.modes import Mode
from confcom.playground.story.jobs import (
    epc_event,
    require_phase,
    submit,
)
from confcom.playground.story.report import StepError
from confcom.playground.story.scene import (
    EPC_MIB,
    EPC_RESOURCE,
    HELPER_EPC_RESOURCE,
    QUOTE_PREFIX,
    VM_SIZE,
    Notes,
    Scene,
)
from confcom.playground.story.stage import probe
from confcom.playground.views import Phase

SEED_JOB = "sgx-test"
SEED_JOB_MIB = 10
CHALLENGE_SIZE = 32
"""Bytes of the relying party's challenge: what a hash would fill of the 64 bytes of report data."""

CHALLENGE_PLACEHOLDER = "0" * 64
"""What examples/job.yaml has where a relying party's challenge belongs."""


def simulated_platform(scene: Scene, notes: Notes) -> None:
    """Step 1: a platform with a root of its own."""
    notes.name(scene.commands, "DEMO", str(scene.folder))
    created = scene.run(notes, "simulation", "create", str(scene.platform), "--output", "json").json()
    scene.fingerprint = str(created["root_sha256"])
    notes.say(f"{EPC_MIB} MiB of EPC, as Azure's {VM_SIZE} has")
    notes.say(f"its own root of trust, SHA-256 {scene.fingerprint}")
    notes.say("SIMULATED: it proves nothing about hardware, and says so in every certificate and quote")
    notes.data.update(epc_mib=EPC_MIB, vm_size=VM_SIZE, root_sha256=scene.fingerprint)


def daemons(scene: Scene, notes: Notes) -> None:
    """Step 2: the node, the device plugin and the quote helper as processes of their own."""
    stage, folder = scene.stage, scene.folder
    notes.repeat(stage.start("node", "playground", "node", "--dir", str(folder), "--mode", scene.mode_flag))
    stage.wait_until("the node's start", lambda: (scene.layout.control_socket.exists(), "it has no control socket yet"))
    plugin_probe, helper_probe = folder / "plugin.probe", folder / "helper.probe"
    plugin = [
        "--simulated",
        "--simulated-epc-mib",
        str(EPC_MIB),
        "--host-root",
        str(scene.layout.node_root),
        "--device-plugin-dir",
        str(scene.layout.device_plugin_dir),
        "--probe-address",
        f"unix:{plugin_probe}",
    ]
    helper = [
        "--simulated",
        "--state-dir",
        str(scene.platform),
        "--socket",
        str(scene.layout.aesm_socket),
        "--probe-address",
        f"unix:{helper_probe}",
    ]
    notes.repeat(stage.start("device-plugin", "device-plugin", *plugin))
    notes.repeat(stage.start("quote-helper", "quote-helper", *helper))
    stage.wait_until("readiness of the device plugin", lambda: probe(plugin_probe))
    stage.wait_until("readiness of the quote helper", lambda: probe(helper_probe))
    stage.wait_until("registration of the device plugin", lambda: _allocatable(scene))
    node = scene.node.node()
    for name, running in stage.running.items():
        notes.say(f"{name}: process {running.process.pid}, log {running.log.relative_to(scene.folder)}")
    notes.say(f"containers run in mode {node.mode}: {Mode(node.mode).explanation}")
    notes.say(f"allocatable: {EPC_RESOURCE} = {node.allocatable[EPC_RESOURCE]}")
    notes.say(f"             {HELPER_EPC_RESOURCE} = {node.allocatable[HELPER_EPC_RESOURCE]}, no tenant's")
    notes.data.update(
        processes={name: running.process.pid for name, running in stage.running.items()},
        mode=node.mode,
        allocatable=dict(node.allocatable),
    )


def _allocatable(scene: Scene) -> tuple[bool, str]:
    """Whether tenants and quote helpers together are offered all EPC of the platform."""
    allocatable = scene.node.node().allocatable
    offered = [allocatable.get(name, 0) for name in (EPC_RESOURCE, HELPER_EPC_RESOURCE)]
    if all(offered) and sum(offered) != EPC_MIB:
        raise StepError(f"the node offers {sum(offered)} MiB of EPC where the platform has {EPC_MIB}")
    return all(offered), f"the node does not offer both {EPC_RESOURCE} and {HELPER_EPC_RESOURCE} yet"


def seed_job(scene: Scene, notes: Notes) -> None:
    """Step 3: the seed's Job is submitted and gets its EPC."""
    scene.challenge = scene.random(CHALLENGE_SIZE)
    text = (scene.manifests / "job.yaml").read_text()
    if CHALLENGE_PLACEHOLDER not in text:
        raise StepError("examples/job.yaml has no place for the relying party's challenge")
    notes.name(scene.commands, "CHALLENGE", scene.challenge.hex())
    manifest = scene.folder / "job.yaml"
    manifest.write_text(text.replace(CHALLENGE_PLACEHOLDER, scene.challenge.hex()))
    for warning in submit(scene, notes, manifest):
        notes.say(f"warning: {warning}")
    held = epc_event(scene, SEED_JOB, "Allocated")
    if held.count != SEED_JOB_MIB:
        raise StepError(f"the Job asked for {SEED_JOB_MIB} MiB of EPC and got {held.count}")
    notes.say("the relying party's challenge, 32 random bytes, is in the manifest")
    notes.say(f"ledger: {held.message}")
    notes.repeat(scene.commands.shown("playground", "get", "--dir", str(scene.folder)))
    notes.data.update(challenge=scene.challenge.hex(), allocated_mib=held.count, ledger=held.message)


def quote_out_of_process(scene: Scene, notes: Notes) -> None:
    """Step 4: the container makes a report, gets a quote from the node's helper, and ends well."""
    pod = require_phase(scene, SEED_JOB, Phase.SUCCEEDED)
    container = pod.containers[0]
    notes.say(f"container {container.name} of pod {pod.name} ran {container.image} with SGX_AESM_ADDR=1")
    for device in container.devices:
        notes.say(f"device {device.container_path} (simulated: the host's {device.host_path})")
    for mount in container.mounts:
        notes.say(f"mount {mount.container_path} ({mount.source}{', read-only' if mount.read_only else ''})")
    logs = scene.commands.run("playground", "logs", "--dir", str(scene.folder), pod.name)
    log = logs.stdout
    notes.repeat(f"{logs.shown} | sed -n 's/^{QUOTE_PREFIX}//p' | base64 -d > $DEMO/{scene.quote.name}")
    encoded = [line.removeprefix(QUOTE_PREFIX) for line in log.splitlines() if line.startswith(QUOTE_PREFIX)]
    for line in log.splitlines():
        if line.strip() and not line.startswith(QUOTE_PREFIX):
            notes.say(f"| {line}")
    try:
        quote = base64.b64decode(encoded[-1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise StepError("the container printed no quote", why=log[-300:]) from error
    scene.quote.write_bytes(quote)
    notes.say(f"its quote, {len(quote)} bytes, left the container through its log")
    if scene.node.node().mode == Mode.NO_NAMESPACE:
        notes.say(
            "CONFCOM_AESM_SOCKET told it where the socket is; without namespaces a stock client would not find it"
        )
    notes.repeat(scene.commands.shown("inspect", str(scene.quote)))
    notes.data.update(
        pod=pod.name,
        exit_code=pod.exit_code,
        quote_bytes=len(quote),
        devices=[device.container_path for device in container.devices],
        mounts=[mount.container_path for mount in container.mounts],
        environment=dict(container.env),
    )

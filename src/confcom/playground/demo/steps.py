"""Steps 1 to 4: a platform, the daemons, the Job of examples/job.yaml, and the quote from its container."""

from __future__ import annotations

import base64
import binascii

from confcom.playground.api.views import Phase
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import (
    EPC_MIB,
    EPC_RESOURCE,
    HELPER_EPC_RESOURCE,
    QUOTE_PREFIX,
    VM_SIZE,
    DemoContext,
    Notes,
    examples_folder,
)
from confcom.playground.demo.jobs import epc_event, require_phase, submit
from confcom.playground.demo.processes import probe
from confcom.playground.runtime.modes import Mode

EXAMPLE_JOB = "sgx-test"
EXAMPLE_JOB_MIB = 10
CHALLENGE_SIZE = 32
"""Bytes of the relying party's challenge: the size of a hash, of the 64 bytes of report data."""

CHALLENGE_PLACEHOLDER = "0" * 64
"""The placeholder for the relying party's challenge in examples/job.yaml."""


def simulated_platform(context: DemoContext, notes: Notes) -> None:
    """Step 1: create a simulated platform with its own root."""
    notes.define(context.commands, "DEMO", str(context.folder))
    platform = str(context.layout.platform)
    fingerprint = context.run(notes, "simulation", "create", platform, "--output", "json").json()["root_sha256"]
    notes.say(f"{EPC_MIB} MiB of EPC, as Azure's {VM_SIZE} has")
    notes.say(f"its own root of trust, SHA-256 {fingerprint}")
    notes.say("SIMULATED: it proves nothing about hardware, and says so in every certificate and quote")
    notes.data.update(epc_mib=EPC_MIB, vm_size=VM_SIZE, root_sha256=fingerprint)


def daemons(context: DemoContext, notes: Notes) -> None:
    """Step 2: start the node, the device plugin and the quote helper as processes of their own."""
    processes, folder = context.processes, context.folder
    notes.add_command(processes.start("node", "playground", "node", "--dir", str(folder), "--mode", context.mode_flag))
    processes.wait_until(
        "the node's start", lambda: (context.layout.control_socket.exists(), "it has no control socket yet")
    )
    plugin_probe, helper_probe = folder / "plugin.probe", folder / "helper.probe"
    layout = context.layout
    plugin = ["--simulated", "--simulated-epc-mib", str(EPC_MIB), "--host-root", str(layout.node_root)]
    plugin += ["--device-plugin-dir", str(layout.device_plugin_dir), "--probe-address", f"unix:{plugin_probe}"]
    helper = ["--simulated", "--state-dir", str(layout.platform), "--socket", str(layout.aesm_socket)]
    helper += ["--probe-address", f"unix:{helper_probe}"]
    notes.add_command(processes.start("device-plugin", "device-plugin", *plugin))
    notes.add_command(processes.start("quote-helper", "quote-helper", *helper))
    processes.wait_until("readiness of the device plugin", lambda: probe(plugin_probe))
    processes.wait_until("readiness of the quote helper", lambda: probe(helper_probe))
    processes.wait_until("registration of the device plugin", lambda: _allocatable(context))
    node = context.node.node()
    for name, running in processes.running.items():
        notes.say(f"{name}: process {running.process.pid}, log {running.log.relative_to(context.folder)}")
    notes.say(f"containers run in mode {node.mode}: {Mode(node.mode).explanation}")
    notes.say(f"allocatable: {EPC_RESOURCE} = {node.allocatable[EPC_RESOURCE]}")
    notes.say(f"             {HELPER_EPC_RESOURCE} = {node.allocatable[HELPER_EPC_RESOURCE]}, no tenant's")
    notes.data.update(
        processes={name: running.process.pid for name, running in processes.running.items()},
        mode=node.mode,
        allocatable=dict(node.allocatable),
    )


def _allocatable(context: DemoContext) -> tuple[bool, str]:
    """Return whether the node offers all EPC of the platform to tenants and quote helpers, and a text for the wait.

    Raises:
        StepError: the node offers both resources, and their sum differs from the platform's EPC.
    """
    allocatable = context.node.node().allocatable
    offered = [allocatable.get(name, 0) for name in (EPC_RESOURCE, HELPER_EPC_RESOURCE)]
    if all(offered) and sum(offered) != EPC_MIB:
        raise StepError(
            f"the node offers {sum(offered)} MiB of EPC where the platform has {EPC_MIB}", error_code="epc-differs"
        )
    return all(offered), f"the node does not offer both {EPC_RESOURCE} and {HELPER_EPC_RESOURCE} yet"


def submit_job(context: DemoContext, notes: Notes) -> None:
    """Step 3: submit the Job, and check that EPC is allocated to it."""
    context.challenge = context.random(CHALLENGE_SIZE)
    text = (examples_folder() / "job.yaml").read_text()
    if CHALLENGE_PLACEHOLDER not in text:
        raise StepError(
            "examples/job.yaml has no place for the relying party's challenge", error_code="no-place-for-challenge"
        )
    notes.define(context.commands, "CHALLENGE", context.challenge.hex())
    manifest = context.folder / "job.yaml"
    manifest.write_text(text.replace(CHALLENGE_PLACEHOLDER, context.challenge.hex()))
    for warning in submit(context, notes, manifest):
        notes.say(f"warning: {warning}")
    held = epc_event(context, EXAMPLE_JOB, "Allocated")
    if held.count != EXAMPLE_JOB_MIB:
        raise StepError(
            f"the Job asked for {EXAMPLE_JOB_MIB} MiB of EPC and got {held.count}", error_code="epc-differs"
        )
    notes.say("the relying party's challenge, 32 random bytes, is in the manifest")
    notes.say(f"ledger: {held.message}")
    notes.add_command(context.commands.shown("playground", "get", "--dir", str(context.folder)))
    notes.data.update(challenge=context.challenge.hex(), allocated_mib=held.count, ledger=held.message)


def quote_out_of_process(context: DemoContext, notes: Notes) -> None:
    """Step 4: the container makes a report, gets a quote from the node's quote helper, and exits 0."""
    pod = require_phase(context, EXAMPLE_JOB, Phase.SUCCEEDED)
    container = pod.containers[0]
    notes.say(f"container {container.name} of pod {pod.name} ran {container.image} with SGX_AESM_ADDR=1")
    for device in container.devices:
        notes.say(f"device {device.container_path} (simulated: the host's {device.host_path})")
    for mount in container.mounts:
        notes.say(f"mount {mount.container_path} ({mount.source}{', read-only' if mount.read_only else ''})")
    logs = context.commands.run("playground", "logs", "--dir", str(context.folder), pod.name)
    log = logs.stdout
    notes.add_command(f"{logs.shown} | sed -n 's/^{QUOTE_PREFIX}//p' | base64 -d > $DEMO/{context.quote.name}")
    encoded = [line.removeprefix(QUOTE_PREFIX) for line in log.splitlines() if line.startswith(QUOTE_PREFIX)]
    for line in log.splitlines():
        if line.strip() and not line.startswith(QUOTE_PREFIX):
            notes.say(f"| {line}")
    try:
        quote = base64.b64decode(encoded[-1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise StepError("the container printed no quote", error_code="no-quote", why=log[-300:]) from error
    context.quote.write_bytes(quote)
    notes.say(f"its quote, {len(quote)} bytes, left the container through its log")
    if context.node.node().mode == Mode.NO_NAMESPACE:
        notes.say(
            "CONFCOM_AESM_SOCKET told it where the socket is; without namespaces a stock client would not find it"
        )
    notes.add_command(context.commands.shown("inspect", str(context.quote)))
    notes.data.update(
        pod=pod.name,
        exit_code=pod.exit_code,
        quote_bytes=len(quote),
        devices=[device.container_path for device in container.devices],
        mounts=[mount.container_path for mount in container.mounts],
        environment=dict(container.env),
    )

"""The plugin as a process, against a kubelet over real sockets."""

import asyncio

from confcom.kubelet_api.device_list import device_id

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"


async def test_registers_and_the_whole_list_arrives(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin("--simulated-epc-mib", "168")
    await kubelet.until_list(EPC, ENCLAVE, PROVISION)
    assert kubelet.lists[EPC] == [device_id(index) for index in range(168)]
    assert len(kubelet.lists[ENCLAVE]) == len(kubelet.lists[PROVISION]) == 1024
    (request,) = kubelet.registrations(EPC)
    assert request.version == "v1beta1"
    assert "/" not in request.endpoint

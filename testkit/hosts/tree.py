import os
import shutil
import stat

from confcom.sgx.epc_from_cpuid import MIB


class HostTree:
    def __init__(self, root):
        self.root = root
        self.driver = root / "sys/class/misc/sgx_enclave"
        self.devices = {"sgx_enclave": 0o666, "sgx_provision": 0o660}
        self.set_epc(28 * MIB)

    def set_epc(self, *sizes):
        for number, size in enumerate(sizes):
            attribute = self.root / f"sys/devices/system/node/node{number}/x86/sgx_total_bytes"
            attribute.parent.mkdir(parents=True, exist_ok=True)
            attribute.write_text(f"{size}\n")

    def load(self):
        self.driver.mkdir(parents=True)
        (self.root / "dev").mkdir(exist_ok=True)
        for name, mode in self.devices.items():
            self.make(name, mode)

    def make(self, name, mode):
        path = self.root / "dev" / name
        try:
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(1, 3))
        except PermissionError:
            path.symlink_to("/dev/null")  # /dev/null stands in for a device node
            return
        path.chmod(mode)
        os.chown(path, 0, 107 if name == "sgx_provision" else 0)

    def unload(self):
        self.driver.rmdir()
        shutil.rmtree(self.root / "dev")

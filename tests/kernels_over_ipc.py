"""A pytest plug-in for nbval: kernels talk over files, as in `commands.reproduce`, not ports."""

import tempfile

from jupyter_client import KernelManager
from nbval import kernel


class OverIPC(KernelManager):
    def __init__(self, **options):
        self.sockets = tempfile.TemporaryDirectory(prefix="kernel-")
        super().__init__(transport="ipc", ip=f"{self.sockets.name}/socket", **options)


kernel.KernelManager = OverIPC

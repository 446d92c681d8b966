"""The store of kernels: what a process gains by it, and what that costs."""

import os
import subprocess
import sys
import tempfile

import fastein
from fastein.cpu import compiler
from fastein.cpu.engine import engine_of
from fastein.kernel_files import KernelFiles

WARM = """
import numpy as np
import fastein
fastein.config(cache_dir={folder!r}, jit={jit!r})
a, b = np.ones((512, 512)), np.ones((512, 512))
"""

EARNING = """
import time
import numpy as np
import fastein
from fastein.cpu import tiers
fastein.config(cache_dir={folder!r}, jit="tiered")
a = np.ones((4000, 4000))
start = time.perf_counter()
while not any(tier.ready for tier in tiers._tiers.values()):
    fastein.einsum("ij->j", a)
print(time.perf_counter() - start)
"""


class OneFile:
    """The file of a small kernel."""

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()
        self.files = KernelFiles(self.folder.name)
        self.key, self.content = "0" * 64, bytes(3000)
        self.files.write(self.key, self.content)

    def teardown(self):
        self.folder.cleanup()

    def time_read(self):
        """Find, check and read a file."""
        self.files.read(self.key)

    def time_write(self):
        """Make room, write a file, and move it into place."""
        self.files.write(self.key, self.content)


class Contractions:
    """The kernels of contractions of float64, from files into memory that can be run."""

    def setup_cache(self):
        folder = os.path.abspath("warm")
        with fastein.config(cache_dir=folder):
            engine_of("float64").build()
        return folder

    def setup(self, folder):
        self.settings = fastein.config(cache_dir=folder)
        self.engine = engine_of("float64")

    def teardown(self, folder):
        self.settings.__exit__()

    def time_load(self, folder):
        compiler._store._entries.clear()
        self.engine.take()

    def timeraw_first_call(self, folder):
        """The first call of a process that finds its kernels stored; 512 rows."""
        return "fastein.einsum('ij,jk->ik', a, b)", WARM.format(folder=folder, jit="tiered")

    def timeraw_first_call_without_store(self, folder):
        """The same without: NumPy's matmul stands in."""
        return "fastein.einsum('ij,jk->ik', a, b)", WARM.format(folder=None, jit="never")


class Earning:
    """From the first call of a process that finds no kernels stored until one runs."""

    def track_seconds_until_a_kernel_is_there(self):
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-c", EARNING.format(folder=folder)]
            return float(subprocess.run(program, capture_output=True, check=True).stdout)

    track_seconds_until_a_kernel_is_there.unit = "s"

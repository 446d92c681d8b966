"""The store of kernels: what a process gains by it, and what that costs."""

import os
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

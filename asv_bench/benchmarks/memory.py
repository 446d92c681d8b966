"""What the memory of a large result costs, recycled and fresh."""

import numpy as np

import fastein


class LargeResult:
    """An outer product: little but the writing of its result, of so many MiB."""

    params = ([8, 32, 200], ["recycled", "switched off", "out"])
    param_names = ("MiB", "memory")

    def setup(self, mib, memory):
        self.before = fastein.config().buffer_pool
        fastein.config(buffer_pool=0 if memory == "switched off" else 2**30)
        self.operands = np.ones(mib * 128), np.ones(1024)
        self.out = np.ones((mib * 128, 1024)) if memory == "out" else None
        for _ in range(3):
            self.time_call(mib, memory)

    def teardown(self, mib, memory):
        fastein.config(buffer_pool=self.before)

    def time_call(self, mib, memory):
        fastein.einsum("i,j->ij", *self.operands, out=self.out)


class ResultsTogether(LargeResult):
    """Four of them alive at a time."""

    params = ([8, 32], ["recycled", "switched off"])

    def time_call(self, mib, memory):
        kept = [fastein.einsum("i,j->ij", *self.operands) for _ in range(4)]
        kept.clear()

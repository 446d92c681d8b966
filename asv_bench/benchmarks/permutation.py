"""Permutations into an array that is there: GB/s, and the share of what a copy reaches."""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

import fastein

CASES = {
    "ij->ji f8": ("ij->ji", (4096, 4096), "f8"),
    "ij->ji f4": ("ij->ji", (4096, 4096), "f4"),
    "ij->ji i2": ("ij->ji", (6400, 6400), "i2"),
    "ij->ji i1": ("ij->ji", (8192, 8192), "i1"),
    "ij->ji c16": ("ij->ji", (2560, 2560), "c16"),
    "ij->ji f8 odd": ("ij->ji", (4097, 4095), "f8"),
    "ij->ji f4 odd": ("ij->ji", (4095, 4097), "f4"),
    "ijk->kji f8": ("ijk->kji", (300, 300, 300), "f8"),
    "ijk->kji f8 odd": ("ijk->kji", (301, 301, 301), "f8"),
    "abcd->cadb f4": ("abcd->cadb", (64, 48, 56, 60), "f4"),
    "abcdef->fbdeca f8": ("abcdef->fbdeca", (14,) * 6, "f8"),
    "abc->bac f8": ("abc->bac", (300, 300, 300), "f8"),
    "hwc->chw f4": ("hwc->chw", (3000, 3000, 3), "f4"),
    "chw->hwc f4": ("chw->hwc", (3, 3000, 3000), "f4"),
    "hwc->chw u1": ("hwc->chw", (4000, 4000, 3), "u1"),
    "chw->hwc u1": ("chw->hwc", (3, 4000, 4000), "u1"),
    "abc->bac u1": ("abc->bac", (4000, 4000, 3), "u1"),
    "ij->ji f4, 2000": ("ij->ji", (2000, 2000), "f4"),
    "ij->ji f4, in cache": ("ij->ji", (600, 600), "f4"),
}
ROUNDS = 12


def seconds(call):
    start = perf_counter()
    call()
    return perf_counter() - start


class Permutation:
    """Measured in turns with NumPy's copy of as many bytes, by as many threads."""

    params = (list(CASES), [1, 2])
    param_names = ("case", "threads")
    unit = "GB/s"

    def setup(self, case, threads):
        self.before = fastein.get_num_threads()
        if threads > self.before:
            raise NotImplementedError("more threads than this process may use")
        fastein.set_num_threads(threads)
        self.equation, shape, dtype = CASES[case]
        self.operand = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        source, result = self.equation.split("->")
        self.out = np.zeros([shape[source.index(label)] for label in result], dtype)
        self.sources = np.array_split(self.operand.reshape(-1), threads)
        self.targets = [np.zeros_like(part) for part in self.sources]
        self.pool = ThreadPoolExecutor(threads)
        with fastein.config(jit="always"):
            self.permute()

    def teardown(self, case, threads):
        self.pool.shutdown()
        fastein.set_num_threads(self.before)

    def permute(self):
        fastein.einsum(self.equation, self.operand, out=self.out)

    def copy(self):
        list(self.pool.map(np.copyto, self.targets, self.sources))

    def best(self):
        """Seconds of a permutation and of a copy."""
        rounds = [(seconds(self.permute), seconds(self.copy)) for _ in range(ROUNDS)]
        permuted, copied = zip(*rounds, strict=True)
        return min(permuted), min(copied)

    def track_gigabytes_a_second(self, case, threads):
        return 2 * self.operand.nbytes / self.best()[0] / 1e9

    def track_share_of_copy(self, case, threads):
        permuted, copied = self.best()
        return copied / permuted

    track_share_of_copy.unit = "of NumPy's copy"

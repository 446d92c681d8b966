# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Steps of a plan that go through NumPy."""
cimport numpy as cnp

from itertools import groupby
from time import perf_counter

import numpy as np

from ._placed cimport Placed
from ._runtime cimport NestStep, Step

cnp.import_array()

_quiet = np.errstate  # einsum never raises the warnings that NumPy's own functions do


def quietly(steps):
    """The steps of a plan, conversions in a row that might raise warnings as one step."""
    arranged = []
    for warns, group in groupby(steps, may_warn):
        arranged.extend([QuietSteps(tuple(group))] if warns else group)
    return tuple(arranged)


def may_warn(step):
    return isinstance(step, ConvertStep) and not (<ConvertStep>step).keeps_values


cdef class QuietSteps(Step):
    cdef tuple steps

    def __init__(self, steps):
        self.steps = steps

    cdef int perform(self, char **slots) except -1:
        with _quiet(all="ignore"):
            for step in self.steps:
                (<Step>step).perform(slots)
        return 0


cdef class ClearStep(Step):
    cdef int target
    cdef Placed layout

    def __init__(self, int target, Placed layout):
        self.target = target
        self.layout = layout

    cdef int perform(self, char **slots) except -1:
        cnp.PyArray_FillWithScalar(self.layout.at(slots[self.target]), 0)
        return 0


cdef class ConvertStep(Step):
    cdef int source
    cdef int target
    cdef Placed read
    cdef Placed written
    cdef bint keeps_values

    def __init__(self, int source, int target, Placed read, Placed written):
        self.source = source
        self.target = target
        self.read = read
        self.written = written
        # From float to float there is a warning for signalling NaNs, unless bytes are but swapped.
        self.keeps_values = np.can_cast(read.dtype, written.dtype, "safe") and (
            read.dtype.kind in "biu"
            or read.dtype.newbyteorder("=") == written.dtype.newbyteorder("="))

    cdef int perform(self, char **slots) except -1:
        cnp.PyArray_CopyInto(self.written.at(slots[self.target]),
                             self.read.at(slots[self.source]))
        return 0


cdef class MatmulStep(Step):
    """A product of matrices by NumPy's matmul.

    `multiply` gets the operands as N-d arrays and says whether the answer stands. If it does not,
    `nest` gives the answer. It does always, once its generated kernel is there, if `promotes`.
    """

    cdef int first
    cdef int second
    cdef int target
    cdef Placed a
    cdef Placed b
    cdef Placed c
    cdef object multiply
    cdef NestStep nest
    cdef bint promotes

    def __init__(self, slots, Placed a, Placed b, Placed c, multiply, NestStep nest,
                 bint promotes=False):
        self.nest = nest
        self.promotes = promotes
        self.first, self.second, self.target = slots
        self.a = a
        self.b = b
        self.c = c
        self.multiply = multiply

    cdef int perform(self, char **slots) except -1:
        tier = self.nest.account() if self.promotes else None
        if self.promotes and self.nest.generated is not None:
            return self.nest.perform(slots)
        start = perf_counter() if tier is not None else None
        with _quiet(all="ignore"):
            stands = self.multiply(self.a.at(slots[self.first]), self.b.at(slots[self.second]),
                                   self.c.at(slots[self.target]))
        if not stands:
            self.nest.perform(slots)
        if tier is not None:
            tier.spend(perf_counter() - start)
        return 0

# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Layouts of arrays whose memory is known only when a plan runs."""
from cpython.ref cimport Py_INCREF
from libc.stdlib cimport free, malloc
cimport numpy as cnp
from numpy cimport ndarray, npy_intp

from ._result_memory cimport fastein_wrap

cnp.import_array()


cdef class Placed:
    """The layout of an array whose memory is known only when it runs."""

    def __cinit__(self, shape, strides, dtype):
        cdef int k
        self.ndim = len(shape)
        self.dtype = dtype
        self.shape = <npy_intp *>malloc((2 * self.ndim + 1) * sizeof(npy_intp))
        if self.shape == NULL:
            raise MemoryError()
        self.strides = self.shape + self.ndim
        for k in range(self.ndim):
            self.shape[k] = shape[k]
            self.strides[k] = strides[k]

    def __dealloc__(self):
        free(self.shape)

    cdef ndarray at(self, char *data):
        """An array over `data`, which must outlive it."""
        Py_INCREF(self.dtype)  # the call steals it
        return fastein_wrap(self.dtype, self.ndim, self.shape, self.strides, data,
                            cnp.NPY_ARRAY_WRITEABLE)


def place(layout):
    """The C arrays of a `Layout`."""
    return Placed(layout.shape, layout.strides, layout.dtype)

"""Whether arrays may share memory."""
from libc.stdint cimport uint64_t
cimport numpy as cnp
from numpy cimport ndarray


cdef inline bint overlap(ndarray a, ndarray b) noexcept:
    """Whether the address ranges of two arrays meet."""
    cdef uint64_t a_low, a_high, b_low, b_high
    bounds(a, &a_low, &a_high)
    bounds(b, &b_low, &b_high)
    return a_low < b_high and b_low < a_high


cdef inline void bounds(ndarray array, uint64_t *low, uint64_t *high) noexcept:
    cdef int k
    cdef Py_ssize_t reach
    low[0] = <uint64_t>cnp.PyArray_DATA(array)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(array)
    for k in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_DIM(array, k) == 0:
            high[0] = low[0]
            return
        reach = (cnp.PyArray_DIM(array, k) - 1) * cnp.PyArray_STRIDE(array, k)
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach

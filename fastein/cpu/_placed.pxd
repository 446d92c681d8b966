from numpy cimport ndarray, npy_intp


cdef class Placed:
    cdef int ndim
    cdef npy_intp *shape
    cdef npy_intp *strides
    cdef object dtype

    cdef ndarray at(self, char *data)

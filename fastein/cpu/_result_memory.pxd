from numpy cimport npy_intp

cdef extern from *:
    """
    #define fastein_wrap(dtype, ndim, shape, strides, data, flags) \\
        PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)(dtype), ndim, shape, strides, data, \\
                             flags, NULL)
    """
    object fastein_wrap(object dtype, int ndim, npy_intp *shape, npy_intp *strides, void *data,
                        int flags)  # steals a reference to dtype

cdef enum:
    ALIGNMENT = 64        # of all memory from here: a cache line, and the widest vector
    LARGE = 1 << 20       # bytes from which a result's memory comes from here

cdef void *take(size_t size) noexcept nogil
cdef void give_back(void *data) noexcept nogil
cdef object large_array(object dtype, int ndim, npy_intp *shape, npy_intp *strides)

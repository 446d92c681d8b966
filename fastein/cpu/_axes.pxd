# cython: cdivision=True
"""Axes that act as one index, and where its elements lie."""

cdef enum:
    MOST_AXES = 64


cdef struct Axes:
    # Axes that act as one index, outermost first, with their strides in up to three operands.
    int rank
    Py_ssize_t total
    Py_ssize_t size[MOST_AXES]
    Py_ssize_t stride[3][MOST_AXES]


cdef inline Py_ssize_t offset(Axes *axes, int operand, Py_ssize_t index) noexcept nogil:
    """Where one element of the joint index lies."""
    cdef Py_ssize_t here = 0
    cdef int a
    for a in range(axes.rank - 1, -1, -1):
        here += index % axes.size[a] * axes.stride[operand][a]
        index //= axes.size[a]
    return here


cdef inline void offsets(Axes *axes, int operand, Py_ssize_t begin, Py_ssize_t count,
                         Py_ssize_t *out) noexcept nogil:
    """Write where the elements `begin` to ``begin + count`` of the joint index lie."""
    cdef Py_ssize_t at[MOST_AXES]
    cdef Py_ssize_t *stride = axes.stride[operand]
    cdef Py_ssize_t here = 0, left = begin, step, run, k
    cdef int last = axes.rank - 1, a
    if last < 0:
        for k in range(count):
            out[k] = 0
        return
    for a in range(last, -1, -1):
        at[a] = left % axes.size[a]
        left //= axes.size[a]
        here += at[a] * stride[a]
    step = stride[last]
    while True:
        run = min(axes.size[last] - at[last], count)
        for k in range(run):
            out[k] = here + k * step
        count -= run
        if count == 0:
            return
        out += run
        here -= at[last] * step
        at[last] = 0
        a = last - 1
        while a >= 0:
            at[a] += 1
            here += stride[a]
            if at[a] < axes.size[a]:
                break
            here -= axes.size[a] * stride[a]
            at[a] = 0
            a -= 1

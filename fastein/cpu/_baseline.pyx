# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The baseline nest: any loop nest of any C dtype, compiled ahead of time.

It exists the moment fastein is imported and answers every equation without a compiler; for
small work it is the fastest answer there is. One walker steps the outer loops; the innermost
one is a loop of `_inner_loops`, the innermost two may be a pair (see `_loop_pairs.pxd`), chosen
when the plan is made.
"""
from .._nest cimport LoopNest
from ._inner_loops cimport Loops, loops_for
from ._loop_pairs cimport PAIR_OPERANDS
from ._map_pairs cimport map_pair
from ._sum_pairs cimport sum_pair
from ._triple_pairs cimport triple_pair

cdef enum:
    CHUNK = 8192  # terms added up one after the other


cdef int prepare(Header *header, LoopNest nest) except -1:
    """Choose the inner loops of a nest, which must outlive the header."""
    cdef bint summed = nest.rank > 0 and nest.is_summed[nest.rank - 1]
    cdef Loops loops = loops_for(nest.dtype.num)
    header.rank = nest.rank
    header.nin = nest.nin
    header.is_summed = nest.is_summed
    header.pointers = NULL
    header.steps = NULL
    header.inner = loops.dot if summed else loops.map
    if nest.nin > 2:
        header.pair = triple_pair(nest)
    else:
        header.pair = sum_pair(nest) if summed else map_pair(nest)
    if header.inner == NULL:
        raise TypeError(f"no loop nest for {nest.dtype}")
    return 0


cdef void run(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
              Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """A kernel (see the developer docs for the ABI) whose `scratch` is the nest's `Header`."""
    cdef float carry = 0.0
    run_share(data, shape, strides, <Header *>scratch, begin, end, True, &carry)


cdef void run_in_turn(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
                      Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """The same where the outermost loop is summed and its shares come one after the other.

    Each adds to what the last one has left, also in the header, which is one call's own.
    """
    cdef Header *nest = <Header *>scratch
    run_share(data, shape, strides, nest, begin, end, begin == 0, &nest.carry)


cdef inline void run_share(char **data, Py_ssize_t *shape, Py_ssize_t *strides, Header *nest,
                           Py_ssize_t begin, Py_ssize_t end, bint first,
                           float *carry) noexcept nogil:
    cdef int rank = nest.rank, nop = nest.nin + 1, last = rank - 1, k
    cdef char *near_pointers[NEAR]
    cdef Py_ssize_t near_steps[NEAR]
    cdef Py_ssize_t outer[PAIR_OPERANDS]
    cdef char **p = near_pointers
    cdef Py_ssize_t *step = near_steps
    if nest.pointers != NULL:
        p = nest.pointers
        step = nest.steps
    for k in range(nop):
        p[k] = data[k]
        step[k] = 0
    if rank == 0:
        stretch(nest, p, step, 1, first, carry)
        return
    if begin >= end:
        return
    for k in range(nop):
        p[k] += begin * strides[k * rank]
        step[k] = strides[k * rank + last]
    if rank == 1 and nest.pair != NULL:
        pair_in_chunks(nest, p, step, end - begin, first)
    elif rank == 1:
        stretch(nest, p, step, end - begin, first, carry)
    elif rank == 2 and nest.pair != NULL:
        for k in range(nop):
            outer[k] = strides[k * rank]
        nest.pair(p, outer, step, end - begin, shape[1], first)
    elif rank == 2:
        two_loops(nest, p, strides, step, end - begin, shape[1], first, carry)
    else:
        walk(nest, p, step, shape, strides, end - begin, first, carry)


cdef inline void stretch(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t n, bint first,
                         float *carry) noexcept nogil:
    """The innermost loop, long sums in chunks: adding up partial sums bounds the rounding error."""
    if n <= CHUNK or not nest.is_summed[nest.rank - 1]:
        nest.inner(p, step, n, nest.nin, first, carry)
    else:
        in_chunks(nest, p, step, n, first, carry)


cdef void in_chunks(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t n, bint first,
                    float *carry) noexcept nogil:
    cdef Py_ssize_t done = 0, count
    cdef int k
    while done < n:
        count = min(n - done, CHUNK)
        nest.inner(p, step, count, nest.nin, first and done == 0, carry)
        done += count
        for k in range(nest.nin):
            p[k] += count * step[k]
    for k in range(nest.nin):
        p[k] -= n * step[k]


cdef inline void pair_in_chunks(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t n,
                                bint first) noexcept nogil:
    """One loop as the inner one of a pair."""
    cdef Py_ssize_t left = n
    cdef int k
    while left > CHUNK:
        nest.pair(p, step, step, 1, CHUNK, first)
        left -= CHUNK
        for k in range(nest.nin + 1):
            p[k] += CHUNK * step[k]
        first = first and not nest.is_summed[0]
    nest.pair(p, step, step, 1, left, first)


cdef void two_loops(Header *nest, char **p, Py_ssize_t *outer, Py_ssize_t *step, Py_ssize_t m,
                    Py_ssize_t n, bint first, float *carry) noexcept nogil:
    """The two innermost loops, of m and n, where there is no pair for them."""
    cdef int nop = nest.nin + 1, k
    cdef bint summed = nest.is_summed[nest.rank - 2]
    cdef Py_ssize_t i
    for i in range(m):
        stretch(nest, p, step, n, first and (i == 0 or not summed), carry)
        for k in range(nop):
            p[k] += outer[k * nest.rank]
    for k in range(nop):
        p[k] -= m * outer[k * nest.rank]


cdef void three_loops(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t *strides,
                      Py_ssize_t count, Py_ssize_t m, Py_ssize_t n, bint first,
                      float *carry) noexcept nogil:
    """The three innermost loops: a pair, or two loops, so many times. The pointers stay behind."""
    cdef int rank = nest.rank, nop = nest.nin + 1, third = rank - 3, k
    cdef bint summed = nest.is_summed[third]
    cdef Py_ssize_t outer[PAIR_OPERANDS]
    cdef Py_ssize_t i
    if nest.pair != NULL:
        for k in range(nop):
            outer[k] = strides[k * rank + rank - 2]
        for i in range(count):
            nest.pair(p, outer, step, m, n, first and (i == 0 or not summed))
            for k in range(nop):
                p[k] += strides[k * rank + third]
    else:
        for i in range(count):
            two_loops(nest, p, strides + rank - 2, step, m, n, first and (i == 0 or not summed),
                      carry)
            for k in range(nop):
                p[k] += strides[k * rank + third]


cdef void walk(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t *shape, Py_ssize_t *strides,
               Py_ssize_t outermost, bint first, float *carry) noexcept nogil:
    """Step the outer loops like an odometer, the three innermost in loops of their own."""
    cdef int rank = nest.rank, nop = nest.nin + 1, third = rank - 3, axis, k
    cdef Py_ssize_t index[64]
    cdef Py_ssize_t size, count = shape[third] if third else outermost
    cdef int moved_sums = not first  # outer summed loops that are past their first iteration
    for axis in range(third):
        index[axis] = 0
    while True:
        three_loops(nest, p, step, strides, count, shape[rank - 2], shape[rank - 1],
                    moved_sums == 0, carry)
        axis = third - 1
        if axis < 0:
            return
        for k in range(nop):
            p[k] -= strides[k * rank + third] * count
        while axis >= 0:
            size = outermost if axis == 0 else shape[axis]
            index[axis] += 1
            if index[axis] < size:
                if nest.is_summed[axis] and index[axis] == 1:
                    moved_sums += 1
                for k in range(nop):
                    p[k] += strides[k * rank + axis]
                break
            if nest.is_summed[axis] and size > 1:
                moved_sums -= 1
            index[axis] = 0
            for k in range(nop):
                p[k] -= strides[k * rank + axis] * (size - 1)
            axis -= 1
        if axis < 0:
            return

# Pairs: the two innermost loops of the baseline nest at once, for one, two or three inputs.
#
# A short inner loop costs little more than its steps where nothing has to be started for it, and
# four steps of the outer loop can go through the inner one together: what they share is loaded
# once, what they add up stays in registers. `_sum_pairs` has those whose inner loop is summed,
# `_map_pairs` those where it is an output axis, `_triple_pairs` those of three inputs and more.
#
# Contiguous operands are what vector units want: their loops are cloned for those of the machine.
# Strided ones are not, since compilers turn them into gathers.

from .._nest cimport LoopNest
from ._elements cimport ahead, c256, element, plus, position, stored

# The two loops have m and n steps: p[k] points to operand k (the output last), outer[k] and
# inner[k] are its strides. `first` says that the output has not been visited yet.
ctypedef void (*pair_t)(char **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                        bint first) noexcept nogil

cdef enum:
    PAIR_OPERANDS = 5  # operands of a nest that has a pair, at most


cdef inline void put(element *out, element value, bint first) noexcept nogil:
    out[0] = stored[element](value) if first else plus[element](out[0], stored[element](value))


cdef inline element sum_of_four(element a, element b, element c, element d) noexcept nogil:
    return plus[element](plus[element](a, b), plus[element](c, d))


cdef inline void put_four(element *out, Py_ssize_t so, element t0, element t1, element t2,
                          element t3, bint first) noexcept nogil:
    """Four values for output elements `so` bytes apart; their sum for the one where that is 0."""
    if so == 0:
        put[element](out, sum_of_four[element](t0, t1, t2, t3), first)
    else:
        put[element](out, t0, first)
        put[element](ahead[element](out, so), t1, first)
        put[element](ahead[element](out, 2 * so), t2, first)
        put[element](ahead[element](out, 3 * so), t3, first)


cdef inline bint may_pair(LoopNest nest) noexcept:
    """Whether there are pairs for the nest's dtype, its rank and its number of inputs."""
    return position(nest.dtype.num) >= 0 and nest.rank >= 2 and nest.nin <= 2


cdef inline Py_ssize_t fours(Py_ssize_t m, element *kind) noexcept nogil:
    """How often four go together; never those that do not fit into the registers of the x87."""
    return 0 if element is c256 else m // 4


cdef inline bint has_contiguous_rows(LoopNest nest, int operands) noexcept:
    """Whether the innermost loop of the first so many operands goes from element to element."""
    cdef int p
    for p in range(operands):
        if nest.stride[p * nest.rank + nest.rank - 1] != nest.itemsize:
            return False
    return True

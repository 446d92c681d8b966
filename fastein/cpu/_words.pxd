"""Elements that are moved as they are: nothing counts but their size."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef struct Pair:
    uint64_t first
    uint64_t second

cdef struct HalfLine:
    Pair[2] pairs

cdef struct Line:
    Pair[4] pairs

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    Pair

ctypedef fused line:
    Pair
    HalfLine
    Line

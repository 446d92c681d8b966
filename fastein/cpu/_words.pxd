"""Elements that are moved as they are: nothing counts but their size."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef struct Pair:
    uint64_t first
    uint64_t second

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    Pair

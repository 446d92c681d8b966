from .._nest cimport LoopNest
from ._loop_pairs cimport pair_t

cdef pair_t triple_pair(LoopNest nest) noexcept

from .._nest cimport LoopNest

ctypedef struct Rates:
    # Those of `fastein.cpu.machine.Machine` that the order of loops depends on.
    double cycle
    double strided_access
    double run_overhead
    double vector_bytes

cdef Rates rates_of(machine) except *
cdef double order_loops(LoopNest nest, Rates *rates, int *order, bint streams=*) noexcept

from ._baseline cimport kernel_t

cdef kernel_t moving(str element) noexcept

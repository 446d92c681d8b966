cdef object answer(object subscripts, tuple operands, object out, object options)
cdef object options_of(object dtype, object order, object casting, object optimize, object strict)

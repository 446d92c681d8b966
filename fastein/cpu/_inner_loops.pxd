# An innermost loop of n steps: p[k] points to operand k (the output last), s[k] is its stride.
# `first` says that the output has not been visited yet; `carry` keeps a float16 sum unrounded
# from one visit of an output element to the next.
ctypedef void (*inner_t)(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
                         float *carry) noexcept nogil

# Four scaled rows at once: out (+)= sum over r < 4 of a[r] * x[r], all but a contiguous along n.
ctypedef void (*rows_t)(char *out, char *a, Py_ssize_t sa, char *x, Py_ssize_t sx, Py_ssize_t n,
                        bint first) noexcept nogil

# Sums of short rows: out[j] (+)= sum over n of a[j] * b[j], for j < m; b may be NULL.
ctypedef void (*dots_t)(char *out, Py_ssize_t so, char *a, Py_ssize_t sa, char *b, Py_ssize_t sb,
                        Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil

ctypedef struct Loops:
    inner_t dot
    inner_t map
    rows_t rows
    dots_t dots

cdef Loops loops_for(int type_num) noexcept nogil

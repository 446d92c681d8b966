# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The plan cache: from what a call looks like to what runs it.

A call is known by its subscripts, its options and what kernels depend on of each operand: dtype,
alignment, shape and strides. These are gathered as machine words into a buffer on the stack,
hashed, and looked up in a table of chains of `Entry`.

All state is touched with the GIL held, and an entry in use is kept alive by its caller, so
threads may call, evict and clear at any time.
"""
from cpython.list cimport PyList_GET_ITEM
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
cimport numpy as cnp
from numpy cimport ndarray

cnp.import_array()

cdef extern from "Python.h":
    Py_hash_t hash_of "PyObject_Hash"(object) except? -1

cdef enum:
    NEAR_WORDS = 256          # words of a key that fit on the stack
    BUCKETS = 8192            # a power of two
    MOST_PLANS = 4096
    MOST_WORDS = 4_000_000    # of all keys together (32 MB)
    MOST_SIGHTS = 4096        # a power of two

PLAIN = frozenset("?bBhHiIlLqQefdgFDGO")

cdef list _buckets = [None] * BUCKETS
cdef Py_ssize_t _plans = 0
cdef Py_ssize_t _words = 0
cdef uint64_t _clock = 0
cdef uint64_t _generation = 0
# Calls without a plan: their hashes, each at the place that it says, and how often they were made.
cdef uint64_t[MOST_SIGHTS] _sighted
cdef Py_ssize_t[MOST_SIGHTS] _sights


cdef class Entry:
    """A plan in the cache, under the key of the calls that it answers."""

    def __dealloc__(self):
        free(self.words)


cdef inline Py_ssize_t words_of(ndarray array) noexcept:
    return 1 + 2 * cnp.PyArray_NDIM(array)


cdef inline Py_ssize_t describe(ndarray array, bint is_out, int64_t *words) noexcept:
    """Write what a plan depends on of one operand; the number of words written."""
    cdef int ndim = cnp.PyArray_NDIM(array)
    cdef cnp.dtype descr = array.descr
    cdef int flags = cnp.PyArray_FLAGS(array), k
    cdef uint64_t head = <uint64_t>ndim
    head = head << 1 | ((flags & cnp.NPY_ARRAY_ALIGNED) != 0)
    head = head << 1 | (is_out and (flags & cnp.NPY_ARRAY_WRITEABLE) != 0)
    head = head << 1 | is_out
    head = head << 8 | <unsigned char>descr.byteorder
    head = head << 16 | <uint64_t>(<unsigned short>cnp.PyArray_TYPE(array))
    head = head << 24 | (<uint64_t>cnp.PyArray_ITEMSIZE(array) & 0xFFFFFF)
    words[0] = <int64_t>head
    for k in range(ndim):
        words[1 + k] = cnp.PyArray_DIM(array, k)
        words[1 + ndim + k] = cnp.PyArray_STRIDE(array, k)
    return 1 + 2 * ndim


cdef inline uint64_t mixed(uint64_t hash, int64_t *words, Py_ssize_t count) noexcept:
    cdef Py_ssize_t k
    for k in range(count):
        hash = (hash ^ <uint64_t>words[k]) * <uint64_t>0x9E3779B97F4A7C15
        hash ^= hash >> 32
    return hash


cdef Entry find(object subscripts, tuple operands, Py_ssize_t first, object out, object options):
    """The cached plan of a call, or None."""
    cdef int64_t near[NEAR_WORDS]
    cdef int64_t *words = near
    cdef Py_ssize_t nwords = 0
    cdef uint64_t hash
    cdef Entry entry
    hash = <uint64_t>hash_of(subscripts)
    words = gather(operands, first, out, near, &nwords)
    hash = mixed(hash, words, nwords)
    try:
        entry = <Entry>PyList_GET_ITEM(_buckets, hash & (BUCKETS - 1))
        while entry is not None:
            if (entry.hash == hash and entry.nwords == nwords and entry.options is options
                    and memcmp(entry.words, words, nwords * sizeof(int64_t)) == 0
                    and (entry.subscripts is subscripts or entry.subscripts == subscripts)):
                entry.used = _tick()
                return entry
            entry = entry.next
    finally:
        if words != near:
            free(words)
    return None


cdef inline uint64_t _tick() noexcept:
    global _clock
    _clock += 1
    return _clock


cdef int64_t *gather(tuple operands, Py_ssize_t first, object out, int64_t *near,
                     Py_ssize_t *nwords) except NULL:
    """The words of a key, in `near` if they fit, else in memory that the caller frees."""
    cdef Py_ssize_t k, total = 0, count = PyTuple_GET_SIZE(operands)
    cdef int64_t *words = near
    for k in range(first, count):
        total += words_of(<ndarray>PyTuple_GET_ITEM(operands, k))
    if out is not None:
        total += words_of(<ndarray>out)
    if total > NEAR_WORDS:
        words = <int64_t *>malloc(total * sizeof(int64_t))
        if words == NULL:
            raise MemoryError()
    total = 0
    for k in range(first, count):
        total += describe(<ndarray>PyTuple_GET_ITEM(operands, k), False, words + total)
    if out is not None:
        total += describe(<ndarray>out, True, words + total)
    nwords[0] = total
    return words


cdef Py_ssize_t sights(object subscripts, tuple operands, object out) except -1:
    """How often a call without a plan has been made, this time included; roughly.

    Calls that share a place forget each other, and those of one hash are one.
    """
    cdef int64_t near[NEAR_WORDS]
    cdef Py_ssize_t nwords = 0
    cdef int64_t *words = gather(operands, 0, out, near, &nwords)
    cdef uint64_t hash = mixed(<uint64_t><Py_hash_t>hash_of(subscripts), words, nwords)
    cdef Py_ssize_t place = hash & (MOST_SIGHTS - 1)
    if words != near:
        free(words)
    if _sighted[place] != hash:
        _sighted[place] = hash
        _sights[place] = 0
    _sights[place] += 1
    return _sights[place]


cdef uint64_t generation() noexcept:
    """Which settings plans are made under: another number after each change."""
    return _generation


cdef Entry remember(object subscripts, tuple operands, object out, object options,
                    Executable executable, uint64_t made_in):
    """Put a plan into the cache, evicting the less recently used half when it is full.

    A plan that was made in an earlier `generation` is not kept: the settings have changed while
    it was in the making.
    """
    global _plans, _words
    cdef int64_t near[NEAR_WORDS]
    cdef int64_t *words
    cdef Py_ssize_t nwords = 0
    cdef Entry entry = Entry()
    words = gather(operands, 0, out, near, &nwords)
    entry.words = words
    if words == near:
        entry.words = <int64_t *>malloc((nwords + 1) * sizeof(int64_t))
        if entry.words == NULL:
            raise MemoryError()
        memcpy(entry.words, near, nwords * sizeof(int64_t))
    entry.nwords = nwords
    entry.hash = mixed(<uint64_t><Py_hash_t>hash_of(subscripts), entry.words, nwords)
    entry.subscripts = subscripts
    entry.options = options
    entry.executable = executable
    entry.used = _tick()
    if nwords > MOST_WORDS // 4 or made_in != _generation:
        return entry  # larger than is worth keeping, or out of date
    if not executable.is_view() and not all_plain(operands, out):
        return entry  # a view is right for any dtype; the key does not tell these apart
    if _plans >= MOST_PLANS or _words + nwords > MOST_WORDS:
        evict()
    insert(entry)
    return entry


cdef bint all_plain(tuple operands, object out):
    for array in operands:
        if not is_plain(array.dtype):
            return False
    return out is None or is_plain(out.dtype)


cdef bint is_plain(object dtype):
    """Whether a dtype is all said by its number, size and byte order."""
    return dtype.char in PLAIN and dtype.metadata is None


cdef void insert(Entry entry):
    global _plans, _words
    cdef Py_ssize_t bucket = entry.hash & (BUCKETS - 1)
    entry.next = _buckets[bucket]
    _buckets[bucket] = entry
    _plans += 1
    _words += entry.nwords


cdef void evict():
    """Keep the more recently used half (as counted in words and in plans)."""
    cdef list entries = []
    cdef Entry entry
    cdef Py_ssize_t words = 0
    for first in _buckets:
        entry = first
        while entry is not None:
            entries.append(entry)
            entry = entry.next
    drop_all()
    entries.sort(key=_used_last, reverse=True)
    for entry in entries[:MOST_PLANS // 2]:
        words += entry.nwords
        if words > MOST_WORDS // 2:
            break
        insert(entry)


def _used_last(Entry entry):
    return entry.used


cdef void outdate() noexcept:
    """Have no plan that is in the making now be kept."""
    global _generation
    _generation += 1


def clear_plans():
    """Forget all plans (after a change of the settings, on which plans depend)."""
    outdate()
    drop_all()


cdef void drop_all():
    global _buckets, _plans, _words
    cdef Entry entry
    for first in _buckets:
        entry = first
        while entry is not None:
            entry.next, entry = None, entry.next
    _buckets = [None] * BUCKETS
    _plans = _words = 0


def plan_count():
    """Number of plans in the cache."""
    return _plans

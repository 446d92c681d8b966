# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Memory of large results, recycled.

The first touch of fresh memory costs more than most einsums do with it: the kernel has to zero
every page. Memory that a result leaves behind therefore waits in a pool for the next one. The
pool is bounded by ``config(buffer_pool=...)``, and the kernel may take the pages of all blocks
that wait there, but for the newest one's, whenever it needs them.

A block is a mapping with a header in front of the data::

    base                 data, aligned to a huge page
    | page with Block    | size bytes asked for   ...room |

Smaller requests get the same header in front of memory from malloc, and no recycling: the C
library does that well enough. NumPy gets at all this through a handler in the sense of NEP 49,
which is in force only while `large_array` makes an array. Such an array owns its data, so that
``resize`` works, and returns it here when it dies, wherever and in whatever thread that is.

Functions without the GIL may be called at any time: NumPy's handlers make no promise about it.
"""
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport SIZE_MAX, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcpy
cimport numpy as cnp
from numpy cimport npy_intp

from ..config import on_change, settings

cnp.import_array()

cdef extern from *:
    """
    #if defined(__unix__) || defined(__APPLE__)
    #include <pthread.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #define FASTEIN_MAPS 1
    #ifndef MAP_ANONYMOUS
    #define MAP_ANONYMOUS MAP_ANON
    #endif

    static pthread_mutex_t fastein_mutex = PTHREAD_MUTEX_INITIALIZER;

    static void fastein_lock(void) { pthread_mutex_lock(&fastein_mutex); }
    static void fastein_unlock(void) { pthread_mutex_unlock(&fastein_mutex); }
    static int fastein_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
    {
        return pthread_atfork(before, parent, child);
    }

    static size_t fastein_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

    static char *fastein_map(size_t size)
    {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return memory == MAP_FAILED ? NULL : (char *)memory;
    }
    static void fastein_unmap(char *memory, size_t size) { munmap(memory, size); }

    /* Advice is no more than that: whether a system follows it, or knows it, changes no result. */
    static void fastein_want_huge_pages(char *memory, size_t size)
    {
    #ifdef MADV_HUGEPAGE
        madvise(memory, size, MADV_HUGEPAGE);
    #endif
    }
    static void fastein_offer(char *memory, size_t size)
    {
    #ifdef MADV_FREE
        madvise(memory, size, MADV_FREE);
    #endif
    }
    #else
    #define FASTEIN_MAPS 0
    static void fastein_lock(void) {}
    static void fastein_unlock(void) {}
    static int fastein_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
    {
        return 0;
    }
    static size_t fastein_page(void) { return 4096; }
    static char *fastein_map(size_t size) { return NULL; }
    static void fastein_unmap(char *memory, size_t size) {}
    static void fastein_want_huge_pages(char *memory, size_t size) {}
    static void fastein_offer(char *memory, size_t size) {}
    #endif
    """
    bint MAPS "FASTEIN_MAPS"
    void lock "fastein_lock"() noexcept nogil
    void unlock "fastein_unlock"() noexcept nogil
    int at_fork "fastein_at_fork"(void (*before)() noexcept nogil,
                                  void (*parent)() noexcept nogil,
                                  void (*child)() noexcept nogil)
    size_t page_size "fastein_page"()
    char *map_memory "fastein_map"(size_t size) noexcept nogil
    void unmap "fastein_unmap"(char *memory, size_t size) noexcept nogil
    void want_huge_pages "fastein_want_huge_pages"(char *memory, size_t size) noexcept nogil
    void offer "fastein_offer"(char *memory, size_t size) noexcept nogil

cdef extern from "numpy/arrayobject.h":
    PyObject *PyDataMem_DefaultHandler

cdef struct Block:
    char *base        # where the mapping, or the memory from malloc, begins
    size_t mapped     # bytes of the mapping; 0 for memory from malloc
    size_t room       # bytes from the data to the end
    size_t size       # bytes that were asked for
    Block *older      # neighbours in the pool
    Block *newer
    bint is_zero      # nobody has written to it yet
    bint is_offered   # the kernel may take its pages

cdef enum:
    HEADER = 64            # bytes before the data that hold the Block
    HUGE_PAGE = 1 << 21

cdef size_t _page = page_size()
cdef size_t _pooled_from    # bytes
cdef size_t _bound = 0      # most bytes that wait in the pool
# What the lock protects:
cdef size_t _idle_bytes = 0
cdef Block *_newest = NULL
cdef Block *_oldest = NULL


# Blocks


cdef inline Block *block_of(void *data) noexcept nogil:
    return <Block *>(<char *>data - HEADER)


cdef inline char *data_of(Block *block) noexcept nogil:
    return <char *>block + HEADER


cdef inline char *aligned(char *address, size_t to) noexcept nogil:
    return address + (-<uintptr_t>address) % to


cdef Block *from_malloc(size_t size) noexcept nogil:
    cdef char *base = NULL
    cdef Block *block
    if size <= SIZE_MAX - HEADER - ALIGNMENT:
        base = <char *>malloc(size + HEADER + ALIGNMENT)
    if base == NULL:
        return NULL
    block = block_of(aligned(base + HEADER, ALIGNMENT))
    block.base = base
    block.mapped = 0
    block.room = size
    block.is_zero = False
    return block


cdef Block *from_mapping(size_t size) noexcept nogil:
    """A mapping whose data begin on a huge page, what surrounds them given back at once."""
    cdef size_t room = (size + _page - 1) // _page * _page
    cdef char *start
    cdef char *data
    cdef Block *block
    if size > SIZE_MAX // 2:
        return NULL
    start = map_memory(room + _page + HUGE_PAGE)
    if start == NULL:
        return NULL
    data = aligned(start + _page, HUGE_PAGE)
    if data - _page > start:
        unmap(start, data - _page - start)
    unmap(data + room, start + _page + HUGE_PAGE - data)
    want_huge_pages(data - _page, room + _page)
    block = block_of(data)
    block.base = data - _page
    block.mapped = room + _page
    block.room = room
    block.is_zero = True
    return block


cdef void discard(Block *block) noexcept nogil:
    """Return a block to the system, and all those that are linked behind it as newer."""
    cdef Block *newer
    while block != NULL:
        newer = block.newer
        unmap(block.base, block.mapped)
        block = newer


# The pool: a list from the oldest block to the newest one


cdef void unlink_block(Block *block) noexcept nogil:
    global _idle_bytes, _newest, _oldest
    if block.older != NULL:
        block.older.newer = block.newer
    else:
        _oldest = block.newer
    if block.newer != NULL:
        block.newer.older = block.older
    else:
        _newest = block.older
    _idle_bytes -= block.room


cdef void offer_newest() noexcept nogil:
    """Let the kernel take the newest block's pages.

    That it may costs the next writer some time, which a program that makes one large result
    after the other should not pay: only once a block is followed by another one is it offered.
    Whole huge pages alone, for the others cost more than they are worth.
    """
    if _newest != NULL and not _newest.is_offered:
        offer(data_of(_newest), _newest.room // HUGE_PAGE * HUGE_PAGE)
        _newest.is_offered = True


cdef void append(Block *block) noexcept nogil:
    global _idle_bytes, _newest, _oldest
    block.is_zero = False
    block.is_offered = False
    block.older = _newest
    block.newer = NULL
    if _newest != NULL:
        _newest.newer = block
    else:
        _oldest = block
    _newest = block
    _idle_bytes += block.room


cdef bint fits(Block *block, size_t size) noexcept nogil:
    """Whether a block has room, and no more than a quarter of it would be wasted."""
    return size <= block.room and size >= block.room - block.room // 4


cdef Block *from_pool(size_t size) noexcept nogil:
    """The tightest of the blocks that fit, the newest of those, whose lines may be in a cache."""
    cdef Block *best = NULL
    cdef Block *block
    lock()
    block = _newest
    while block != NULL:
        if fits(block, size) and (best == NULL or block.room < best.room):
            best = block
        block = block.older
    if best != NULL:
        unlink_block(best)
    unlock()
    return best


cdef Block *beyond(size_t bound) noexcept nogil:
    """Take the oldest blocks that are too many from the pool, for `discard`."""
    cdef Block *first = NULL
    cdef Block *last = NULL
    cdef Block *block
    while _idle_bytes > bound:
        block = _oldest
        unlink_block(block)
        block.newer = NULL
        if last == NULL:
            first = block
        else:
            last.newer = block
        last = block
    return first


cdef void shrink(size_t bound) noexcept nogil:
    cdef Block *surplus
    lock()
    surplus = beyond(bound)
    unlock()
    discard(surplus)


cdef void shrink_child() noexcept nogil:
    """A forked child starts without idle blocks: to write to one would be to copy it."""
    cdef Block *surplus = beyond(0)
    unlock()
    discard(surplus)


# Memory


cdef void *take(size_t size) noexcept nogil:
    """Memory of `size` bytes and undefined content, for `give_back`; NULL if there is none."""
    cdef Block *block
    if size < _pooled_from or _bound == 0:
        block = from_malloc(size)
    else:
        block = from_pool(size)
        if block == NULL:
            block = from_mapping(size)
        if block == NULL:  # what waits here may be what is missing
            shrink(0)
            block = from_mapping(size)
    if block == NULL:
        return NULL
    block.size = size
    return data_of(block)


cdef void give_back(void *data) noexcept nogil:
    cdef Block *block
    cdef Block *surplus
    if data == NULL:
        return
    block = block_of(data)
    if block.mapped == 0:
        free(block.base)
        return
    if block.room > _bound:
        block.newer = NULL
        discard(block)
        return
    lock()
    offer_newest()
    append(block)
    surplus = beyond(_bound)
    unlock()
    discard(surplus)


# NumPy's handler


cdef void *handler_malloc(void *ctx, size_t size) noexcept nogil:
    return take(size)


cdef void *handler_calloc(void *ctx, size_t count, size_t size) noexcept nogil:
    cdef void *data
    if size > 0 and count > SIZE_MAX // size:
        return NULL
    data = take(count * size)
    if data != NULL and not block_of(data).is_zero:
        memset(data, 0, count * size)
    return data


cdef void *handler_realloc(void *ctx, void *data, size_t size) noexcept nogil:
    cdef Block *block
    cdef void *other
    if data == NULL:
        return take(size)
    block = block_of(data)
    if fits(block, size):
        block.size = size
        return data
    other = take(size)
    if other != NULL:
        memcpy(other, data, min(size, block.size))
        give_back(data)
    return other


cdef void handler_free(void *ctx, void *data, size_t size) noexcept nogil:
    give_back(data)  # `size` is that of the array's present shape, which may be another one


cdef cnp.PyDataMem_Handler _functions
strcpy(_functions.name, b"fastein")
_functions.version = 1
_functions.allocator.malloc = handler_malloc
_functions.allocator.calloc = handler_calloc
_functions.allocator.realloc = handler_realloc
_functions.allocator.free = handler_free
cdef object _handler = PyCapsule_New(&_functions, b"mem_handler", NULL)
handler = _handler  # by a name that tests can see


cdef object large_array(object dtype, int ndim, npy_intp *shape, npy_intp *strides):
    """An array of undefined content, its memory from here unless the user has a handler set."""
    cdef object before
    Py_INCREF(dtype)  # the call steals it
    if _bound == 0:
        return fastein_wrap(dtype, ndim, shape, strides, NULL, 0)
    before = cnp.PyDataMem_SetHandler(_handler)
    if <PyObject *>before != PyDataMem_DefaultHandler:
        cnp.PyDataMem_SetHandler(before)
        return fastein_wrap(dtype, ndim, shape, strides, NULL, 0)
    try:
        return fastein_wrap(dtype, ndim, shape, strides, NULL, 0)
    finally:
        cnp.PyDataMem_SetHandler(before)


# Settings


def idle():
    """How many blocks wait in the pool, and their bytes."""
    cdef Py_ssize_t count = 0
    cdef size_t size
    cdef Block *block
    lock()  # no Python object may be made meanwhile: making one may free an array
    block = _newest
    while block != NULL:
        count += 1
        block = block.older
    size = _idle_bytes
    unlock()
    return count, size


def _has_huge_pages():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as setting:
            return "[never]" not in setting.read()
    except OSError:
        return False


def _settings_changed():
    global _bound
    _bound = settings.buffer_pool
    shrink(_bound)


LARGE_FROM = LARGE
# With huge pages recycling beats the C library wherever several results are alive at a time, and
# loses to it nowhere. To give small pages away and to get them back is slow: there it pays only
# for what the C library returns to the system at once.
POOLED_FROM = 4 << 20 if _has_huge_pages() else 32 << 20
_pooled_from = POOLED_FROM if MAPS else SIZE_MAX
if at_fork(lock, unlock, shrink_child) != 0:
    raise MemoryError("no memory for what a fork has to do")
on_change(_settings_changed)
_settings_changed()

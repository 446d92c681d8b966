# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Sharing a kernel's outermost loop among threads.

The threads are fastein's own daemon threads, started when first needed and fed by one queue.
Nothing about them survives a fork; where no thread can be started the caller does the work.
"""
from .._nest cimport LoopNest
from ._baseline cimport kernel_t

from sys import is_finalizing


cdef class Share:
    """One thread's share of the outermost loop."""

    cdef kernel_t function
    cdef char **data
    cdef LoopNest nest
    cdef char *scratch
    cdef Py_ssize_t begin
    cdef Py_ssize_t end
    cdef object done      # a queue on which the end of the work is announced

    cdef void work(self) noexcept:
        with nogil:
            self.function(self.data, self.nest.size, self.nest.stride, self.scratch,
                          self.begin, self.end)


def _serve(queue):
    """A pool thread: shares of work, for ever."""
    cdef Share part
    while True:
        part = queue.get()
        part.work()
        part.done.put(None)
        part = None  # keep nothing alive while waiting


cdef object SimpleQueue = None  # imported with the first thread
cdef object _queue = None
cdef Py_ssize_t _threads = 0


def _forget_threads():
    """A forked child has the queue but not the threads that serve it."""
    global _queue, _threads
    _queue = None
    _threads = 0


cdef Py_ssize_t _start_threads(Py_ssize_t wanted) except -1:
    """Have `wanted` pool threads if possible; how many there are."""
    global SimpleQueue, _queue, _threads
    if _threads >= wanted:
        return _threads
    import os
    import threading

    if SimpleQueue is None:
        from queue import SimpleQueue

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_threads)
    if _queue is None:
        _queue = SimpleQueue()
    try:
        while _threads < wanted:
            threading.Thread(target=_serve, args=(_queue,), name="fastein", daemon=True).start()
            _threads += 1
    except RuntimeError:
        pass  # the system gives no more threads, or the interpreter is ending
    return _threads


cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads) except -1:
    """Run a kernel's outermost loop of `n` in equal shares; the caller takes the first one."""
    cdef Share part
    cdef list parts = []
    cdef Py_ssize_t k, handed = 0
    cdef object failure = None
    if is_finalizing():
        threads = 1  # daemon threads no longer run
    elif _threads < threads - 1:
        threads = min(threads, 1 + _start_threads(threads - 1))
    done = SimpleQueue() if threads > 1 else None
    for k in range(threads):
        part = Share()
        part.function = function
        part.data = data
        part.nest = nest
        part.scratch = scratch
        part.begin = n * k // threads
        part.end = n * (k + 1) // threads
        part.done = done
        parts.append(part)
    # `data` and the result belong to this call: whatever is raised (a signal handler may raise
    # anything), nothing may leave before the last share that was handed out is done.
    try:
        while handed < threads - 1:
            _queue.put(parts[handed + 1])
            handed += 1
    except BaseException as error:
        failure = error
    (<Share>parts[0]).work()
    for part in parts[handed + 1:]:
        part.work()
    while handed > 0:
        try:
            done.get()
            handed -= 1
        except BaseException as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return 0

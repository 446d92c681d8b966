"""Whether a call wakes threads that sleep: what that cost and brought of late.

Waking threads pays for some calls of about 0.1 ms and not for others, by what the machine is and
does. So each step remembers what its calls took alone and with threads woken, and goes the way that
takes less, until one of its calls has tried the other. A step that woke threads stops

- where that takes longer than alone, and
- where more than about one call of eight takes longer than nine of ten alone, as a thread may be
  quick to wake in most calls and very late in some.

It begins where that took less by a margin. Trials that change nothing become rarer and rarer, so
that neither the mean nor the ninth tenth of the calls has to do with them.
"""

cdef extern from *:
    """
    #ifndef FASTEIN_PACE
    #define FASTEIN_PACE
    /* To wake a thread takes the caller 10 us and the thread 30 to 60 (on a virtual machine, whose
       cores stop when they are idle), and what it does first it does with cold caches. */
    #define FASTEIN_WAKE 7e-5
    #define FASTEIN_ROW 3e-5
    #define FASTEIN_SHORT 5e-5
    #define FASTEIN_LONG 1e-3
    #define FASTEIN_GAIN 0.85
    #define FASTEIN_LATE 5e-6
    #define FASTEIN_LOST 0.125
    #define FASTEIN_MEMORY 16
    #endif
    """
    const double WAKE_SECONDS "FASTEIN_WAKE"
    const double ROW_SECONDS "FASTEIN_ROW"      # from one call to the next: what a thread spins for
    const double SHORT_SECONDS "FASTEIN_SHORT"  # of calls alone that never wake threads
    const double LONG_SECONDS "FASTEIN_LONG"    # of calls alone that always do
    const double GAIN "FASTEIN_GAIN"            # time of a call that wakes over that of one alone
    const double LATE_SECONDS "FASTEIN_LATE"    # longer than those alone: a call is lost
    const double LOST "FASTEIN_LOST"            # share of calls that are, at most
    const double MEMORY "FASTEIN_MEMORY"        # calls over which shares and tenths are followed

cdef enum:
    EARLY = 8               # calls until the first trial of all
    FIRST_TRIAL = 32        # calls that go one way before one goes the other
    LAST_TRIAL = 1024       # ... where trial after trial has changed nothing


cdef struct Pace:
    # Seconds of the calls of one step that may be shared; 0 for what is not known yet.
    double estimate     # of one thread
    double alone        # of late, of calls that no thread helped with
    double late         # what nine of ten of those take at most
    double woken        # of late, of calls that woke threads
    double lost         # share of these, of late, that had better not have
    bint wakes          # the way that calls go
    bint tries          # the next one goes the other way
    int calls           # since one went the other way
    int patience        # calls until the next one does


cdef inline double alone_of(Pace *pace) noexcept nogil:
    """Seconds of a call that no thread helps with, as far as is known."""
    return pace.alone or pace.estimate


cdef inline double woken_of(Pace *pace) noexcept nogil:
    """Seconds of a call that wakes a thread, as far as is known."""
    return pace.woken or alone_of(pace) / 2 + WAKE_SECONDS


cdef inline double mended(double known, double seen) noexcept nogil:
    """What is known of the time of calls, given that of one more, which may have been held up."""
    return known + (min(max(seen, known / 2), known * 1.5) - known) / 4


cdef inline void wait_longer(Pace *pace) noexcept nogil:
    """Have the next trial later."""
    pace.calls = 0
    pace.patience = min(max(2 * pace.patience, <int>FIRST_TRIAL), <int>LAST_TRIAL)


cdef inline void choose(Pace *pace) noexcept nogil:
    """Have calls go the way that took less."""
    cdef double alone = alone_of(pace), woken = woken_of(pace)
    if not pace.wakes:
        if woken < GAIN * alone:
            pace.wakes, pace.lost, pace.calls = True, 0, 0
    elif woken > alone or pace.lost > LOST:
        pace.wakes = False
        pace.woken = max(woken, alone)  # whatever it gains at the median
        if pace.calls >= FIRST_TRIAL:   # it did, for a while
            pace.patience = 0
        wait_longer(pace)


cdef inline bint wakes_threads(Pace *pace) noexcept nogil:
    """Whether a call wakes threads that sleep, and now and then whether it would better have."""
    cdef double alone = alone_of(pace)
    if alone < SHORT_SECONDS:
        return False
    if takes_long(pace):
        return True
    return pace.alone != 0 and pace.wakes != pace.tries  # estimates may be far off


cdef inline bint takes_long(Pace *pace) noexcept nogil:
    """Whether calls wake threads whatever that costs."""
    return alone_of(pace) > LONG_SECONDS and (pace.woken == 0 or pace.woken > LONG_SECONDS / 2)


cdef inline void look_ahead(Pace *pace) noexcept nogil:
    """Decide on the next call."""
    if alone_of(pace) < SHORT_SECONDS or takes_long(pace):
        return
    choose(pace)
    pace.calls += 1
    pace.tries = pace.calls >= pace.patience
    if pace.tries:
        wait_longer(pace)


cdef inline void book_alone(Pace *pace, double seconds) noexcept nogil:
    """Learn from a call that no thread helped with."""
    if pace.alone == 0:
        pace.alone = pace.late = seconds
        wait_longer(pace)
        pace.calls = FIRST_TRIAL - EARLY
    pace.late += pace.alone / MEMORY * (0.9 if seconds > pace.late else -0.1)
    pace.alone = mended(pace.alone, seconds)
    look_ahead(pace)


cdef inline void book_woken(Pace *pace, double seconds) noexcept nogil:
    """Learn from a call that woke threads."""
    cdef bint is_lost = seconds > max(alone_of(pace), pace.late) + LATE_SECONDS
    if pace.wakes:
        pace.woken = mended(woken_of(pace), seconds)
        pace.lost += (is_lost - pace.lost) / MEMORY
    else:  # a trial: what was known may be long past
        pace.woken = seconds
    look_ahead(pace)

# cython: language_level=3
"""What an x86 processor says of itself, and how fast any processor's clock is."""
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__x86_64__) || defined(_M_X64)
    #if defined(_MSC_VER)
    #include <intrin.h>
    static void fastein_cpuid(uint32_t leaf, uint32_t part, uint32_t *words)
    {
        __cpuidex((int *)words, (int)leaf, (int)part);
    }
    static uint32_t fastein_enabled(void) { return (uint32_t)_xgetbv(0); }
    #else
    #include <cpuid.h>
    static void fastein_cpuid(uint32_t leaf, uint32_t part, uint32_t *words)
    {
        __cpuid_count(leaf, part, words[0], words[1], words[2], words[3]);
    }
    static uint32_t fastein_enabled(void)
    {
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return low;
    }
    #endif
    #define FASTEIN_X86 1
    #else
    static void fastein_cpuid(uint32_t leaf, uint32_t part, uint32_t *words)
    {
        words[0] = words[1] = words[2] = words[3] = 0;
    }
    static uint32_t fastein_enabled(void) { return 0; }
    #define FASTEIN_X86 0
    #endif
    """
    void cpuid "fastein_cpuid" (uint32_t leaf, uint32_t part, uint32_t *words)
    uint32_t enabled "fastein_enabled" ()
    bint IS_X86 "FASTEIN_X86"

cdef enum:
    STEP_CYCLES = 6  # three shifts, each with an exclusive or that waits for it

# Leaf, part of the leaf, and of its four words those that tell a model or features of it. The
# others differ between the cores of one machine.
_ASKED = (
    (0x0, 0, 0b1110), (0x1, 0, 0b1101), (0x7, 0, 0b1110), (0x7, 1, 0b1111), (0xd, 1, 0b0001),
    (0x14, 0, 0b0010), (0x19, 0, 0b0010), (0x24, 0, 0b0010),
    (0x80000001, 0, 0b1100), (0x80000008, 0, 0b0010),
)


def identity():
    """Return words that are the same for processors with the same features, None if not x86.

    They are what LLVM looks at when it compiles for the processor it runs on.
    """
    cdef uint32_t words[4]
    cdef uint32_t last[2]
    if not IS_X86:
        return None
    cpuid(0, 0, words)
    last[0] = words[0]
    cpuid(0x80000000, 0, words)
    last[1] = words[0]
    found = []
    for leaf, part, wanted in _ASKED:
        if leaf > last[leaf >> 31]:
            found.append("-")
            continue
        cpuid(leaf, part, words)
        found += [f"{words[k]:x}" for k in range(4) if wanted >> k & 1]
        if leaf == 1:
            found.append(f"{enabled():x}" if words[2] >> 27 & 1 else "-")
    return " ".join(found)


def pass_cycles(Py_ssize_t cycles):
    """Spend about so many cycles of the processor's clock.

    Steps of a random number generator wait for one another, whatever the processor can do at a
    time (G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003).
    """
    cdef uint64_t x = 1
    cdef Py_ssize_t _step
    for _step in range(cycles // STEP_CYCLES):
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
    return x

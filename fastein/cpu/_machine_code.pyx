# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Memory that holds machine code, and can be run."""
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(_WIN32)
    #include <windows.h>

    static char *fastein_writable(size_t size)
    {
        return (char *)VirtualAlloc(NULL, size, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    }
    static int fastein_executable(char *memory, size_t size)
    {
        DWORD before;
        return VirtualProtect(memory, size, PAGE_EXECUTE_READ, &before)
            && FlushInstructionCache(GetCurrentProcess(), memory, size);
    }
    static void fastein_release(char *memory, size_t size) { VirtualFree(memory, 0, MEM_RELEASE); }
    #else
    #include <sys/mman.h>
    #ifndef MAP_ANONYMOUS
    #define MAP_ANONYMOUS MAP_ANON
    #endif

    static char *fastein_writable(size_t size)
    {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return memory == MAP_FAILED ? NULL : (char *)memory;
    }
    static int fastein_executable(char *memory, size_t size)
    {
        if (mprotect(memory, size, PROT_READ | PROT_EXEC) != 0)
            return 0;
        __builtin___clear_cache(memory, memory + size);
        return 1;
    }
    static void fastein_release(char *memory, size_t size) { munmap(memory, size); }
    #endif

    static void *const fastein_routines[] = {
        (void *)(uintptr_t)&memcpy, (void *)(uintptr_t)&memmove, (void *)(uintptr_t)&memset,
    };
    """
    char *writable "fastein_writable" (size_t size) nogil
    bint make_executable "fastein_executable" (char *memory, size_t size) nogil
    void release "fastein_release" (char *memory, size_t size) nogil
    void **routines "fastein_routines"


cdef class MachineCode:
    """An image in executable memory, which is freed with this object.

    The memory is never writable and executable at once.

    Parameters
    ----------
    image : fastein.cpu.image.Image

    Attributes
    ----------
    address : int
        The entry point.
    """

    cdef char *memory
    cdef size_t size
    cdef readonly object image
    cdef readonly uintptr_t address

    def __cinit__(self, image):
        cdef bytes code = image.code
        cdef size_t offset, routine
        cdef uint64_t target
        self.size = len(code)
        if image.entry >= self.size:
            raise ValueError("no entry point")
        self.image = image
        self.memory = writable(self.size)
        if self.memory == NULL:
            raise MemoryError("no memory for machine code")
        memcpy(self.memory, <char *>code, self.size)
        for offset, routine in image.imports:
            if self.size < sizeof(target) or offset > self.size - sizeof(target) or routine > 2:
                raise ValueError("no such routine, or no place for it")
            target = <uint64_t><uintptr_t>routines[routine]
            memcpy(self.memory + offset, &target, sizeof(target))
        if not make_executable(self.memory, self.size):
            raise OSError("the system lets no generated code run")
        self.address = <uintptr_t>self.memory + <uintptr_t>image.entry

    def __dealloc__(self):
        if self.memory != NULL:
            release(self.memory, self.size)

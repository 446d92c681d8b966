/* A libcuda that keeps memory on the host and launches nothing: for what is said to the driver.

   Whoever loads it asks cuGetProcAddress for functions; those that are not here succeed silently. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *current = 0;
static void *const context = (void *)0x77;

static void *capturing = 0; /* the stream that a graph is made of */

/* What a real driver refuses meanwhile, or would make part of the graph unasked. */
#define NOT_IN_A_GRAPH if (capturing) return puts("not in a graph"), 900

static int succeed(void) { return 0; }
static int begin_capture(void *stream, int mode) { capturing = stream; return 0; }
static int end_capture(void *stream, void **graph) {
    if (stream != capturing) return 900;
    capturing = 0;
    *graph = (void *)0x33;
    puts("a graph");
    return 0;
}
static int synchronize(void *stream) { NOT_IN_A_GRAPH; return 0; }
static int driver_version(int *version) { *version = 13000; return 0; }
static int device_count(int *count) { *count = 1; return 0; }
static int device_get(int *device, int ordinal) { *device = ordinal; return 0; }
static int device_name(char *name, int size, int device) { strncpy(name, "Stand-in", size); return 0; }

static int device_attribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 75: *value = getenv("STAND_IN_IS_OLD") ? 7 : 9; break;       /* compute capability */
    case 76: *value = 0; break;
    case 16: *value = 132; break;     /* multiprocessors */
    case 97: *value = 232448; break;  /* shared memory of a block */
    case 115: *value = !getenv("STAND_IN_WITHOUT_POOLS"); break;
    default: return 1;
    }
    return 0;
}

static int retain(void **held, int device) { *held = context; return 0; }
static int context_current(void **held) { *held = current; return 0; }
static int context_set(void *set) { current = set; return 0; }
static int context_push(void *pushed) { current = pushed; return 0; }
static int context_pop(void **popped) { *popped = current; current = 0; return 0; }
static int context_device(int *device) { *device = 0; return 0; }
static int pool_create(void **pool, const void *properties) { *pool = (void *)0x99; return 0; }
static int pointer_attribute(int *value, int attribute, uint64_t address) { *value = 0; return 0; }

static int allocate(uint64_t *address, size_t size, void *pool, void *stream) {
    if (current != context || pool != (void *)0x99) return 1;
    if (size > (size_t)1 << 40) return 2;
    *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256);
    printf("allocate %zu on %p\n", size, stream);
    return 0;
}

static int release(uint64_t address, void *stream) {
    free((void *)address);
    printf("release on %p\n", stream);
    return 0;
}

static int to_device(uint64_t to, const void *from, size_t size, void *stream) {
    NOT_IN_A_GRAPH;
    memcpy((void *)to, from, size);
    return 0;
}

static int to_host(void *to, uint64_t from, size_t size, void *stream) {
    NOT_IN_A_GRAPH;
    memcpy(to, (void *)from, size);
    return 0;
}

static int allocate_plainly(uint64_t *address, size_t size) {
    NOT_IN_A_GRAPH;
    *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256);
    printf("allocate %zu plainly\n", size);
    return 0;
}

static int release_plainly(uint64_t address) {
    NOT_IN_A_GRAPH;
    free((void *)address);
    puts("release plainly");
    return 0;
}

static int event_create(void **event, unsigned flags) { *event = (void *)0x55; return flags & ~2; }

static int event_record(void *event, void *stream) {
    printf("record on %p\n", stream);
    return 0;
}

static int event_time(float *milliseconds, void *begin, void *end) { *milliseconds = 1; return 0; }

static int pool_trim(void *pool, size_t kept) { return pool != (void *)0x99 || kept; }

static int stream_wait(void *stream, void *event, unsigned flags) {
    printf("%p waits\n", stream);
    return 0;
}

static int load(void **module, const char *image) {
    NOT_IN_A_GRAPH;
    const char *refused = getenv("STAND_IN_REFUSES");
    if (refused && (!strcmp(refused, "all") || !strncmp(image + 1, refused, strlen(refused)))) {
        puts("refuse");
        return 200; /* CUDA_ERROR_INVALID_IMAGE */
    }
    *module = malloc(8);
    printf("load %s\n", image[0] == 0x7f ? "ELF" : strstr(image, ".version 9.0") ? "PTX" : "?");
    return 0;
}

static int function(void **found, void *module, const char *name) { *found = malloc(8); return 0; }

static int function_attribute(void *changed, int attribute, int value) {
    printf("attribute %d %d\n", attribute, value);
    return 0;
}

static int launch(void *started, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty,
                  unsigned tz, unsigned shared, void *stream, void **arguments, void **extra) {
    printf("launch %u %u %u, %u %u %u, shared %u on %p: %d %d\n", x, y, z, threads, ty, tz, shared,
           stream, *(uint64_t *)arguments[0] != 0, *(int *)arguments[3]);
    return extra != 0;
}

static const struct {
    const char *name;
    void *function;
} known[] = {
    {"cuDriverGetVersion", driver_version}, {"cuDeviceGetCount", device_count},
    {"cuDeviceGet", device_get}, {"cuDeviceGetName", device_name},
    {"cuDeviceGetAttribute", device_attribute}, {"cuDevicePrimaryCtxRetain", retain},
    {"cuCtxGetCurrent", context_current}, {"cuCtxSetCurrent", context_set}, {"cuCtxPushCurrent", context_push},
    {"cuCtxPopCurrent", context_pop}, {"cuCtxGetDevice", context_device},
    {"cuMemPoolCreate", pool_create}, {"cuPointerGetAttribute", pointer_attribute},
    {"cuMemAllocFromPoolAsync", allocate}, {"cuMemFreeAsync", release},
    {"cuMemcpyHtoDAsync", to_device}, {"cuMemcpyDtoHAsync", to_host},
    {"cuMemAlloc", allocate_plainly}, {"cuMemFree", release_plainly},
    {"cuStreamBeginCapture", begin_capture}, {"cuStreamEndCapture", end_capture},
    {"cuStreamSynchronize", synchronize},
    {"cuMemPoolTrimTo", pool_trim}, {"cuEventElapsedTime", event_time},
    {"cuEventCreate", event_create}, {"cuEventRecord", event_record},
    {"cuStreamWaitEvent", stream_wait}, {"cuModuleLoadData", load}, {"cuModuleGetFunction", function},
    {"cuFuncSetAttribute", function_attribute}, {"cuLaunchKernel", launch},
};

int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, void *status) {
    *found = (void *)succeed;
    if (!strcmp(name, "cuGetProcAddress")) *found = (void *)cuGetProcAddress_v2;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (!strcmp(name, known[k].name)) *found = known[k].function;
    return 0;
}

int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, 0);
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { return driver_version(version); }

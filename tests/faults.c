/* Memory that runs out for fastein's extension modules, and for nobody else: preloaded, this stands
   in front of malloc and mmap. Tests tell it which of the calls to refuse. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

long faults_allowed = -1; /* calls before the first that is refused; all are granted below 0 */
int faults_last = 0;      /* whether all that follow are refused as well */
long faults_refused = 0;
char faults_modules[8192]; /* which asked, a line each */

static void note(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    size_t length = strcspn(name, "."), end = strlen(faults_modules);
    char line[256] = "\n";
    if (length > 200 || end + length + 2 > sizeof faults_modules)
        return;
    strncat(line, name, length);
    strcat(line, "\n");
    if (!strstr(faults_modules, line))
        strcpy(faults_modules + (end ? end - 1 : 0), line);
}

static int is_refused(void *caller)
{
    Dl_info info;
    long allowed = __atomic_load_n(&faults_allowed, __ATOMIC_SEQ_CST);
    if (allowed < 0 || !dladdr(caller, &info) || !strstr(info.dli_fname, "/fastein/"))
        return 0;
    note(info.dli_fname);
    if (allowed > 0) {
        __atomic_fetch_sub(&faults_allowed, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    if (!faults_last)
        __atomic_store_n(&faults_allowed, -1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&faults_refused, 1, __ATOMIC_SEQ_CST);
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t size);

void *malloc(size_t size)
{
    return is_refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

typedef void *mapping(void *, size_t, int, int, int, off_t);

static void *map(mapping *next, int refused, void *where, size_t size, int allow, int flags,
                 int file, off_t offset)
{
    return refused ? MAP_FAILED : next(where, size, allow, flags, file, offset);
}

void *mmap(void *where, size_t size, int allow, int flags, int file, off_t offset)
{
    return map((mapping *)dlsym(RTLD_NEXT, "mmap"), is_refused(__builtin_return_address(0)), where,
               size, allow, flags, file, offset);
}

void *mmap64(void *where, size_t size, int allow, int flags, int file, off_t offset)
{
    return map((mapping *)dlsym(RTLD_NEXT, "mmap64"), is_refused(__builtin_return_address(0)),
               where, size, allow, flags, file, offset);
}

// Makes the disk of a database err: loaded with LD_PRELOAD, it answers EIO where diskfull.py says so.
//
// Only files under $DISKERRORS_DIR that end in .db or -wal. $DISKERRORS_CONTROL is a file that both sides
// map, `struct control`; nothing fails while `failing` is 0. A call that fails does nothing: what was
// written before a sync that failed stays in the page cache, as after a failed sync of a sick disk it may.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2 };

struct control {
    _Atomic uint32_t failing;   // WRITES, SYNCS or both
    _Atomic uint32_t per_mille; // of them fail
    _Atomic uint64_t dice;      // the state of the random numbers, seeded by the proof
    _Atomic uint64_t failed_writes, failed_syncs, seen; // calls; seen: on these files, while any failed
};

static struct control *control;
static char directory[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *from = getenv("DISKERRORS_DIR"), *path = getenv("DISKERRORS_CONTROL");
    if (!from || !path || !realpath(from, directory)) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "diskerrors: %s (%s)\n", path, strerror(errno));
        abort();
    }
    control = mapped;
}

static int ends_with(const char *text, size_t length, const char *end) {
    size_t wanted = strlen(end);
    return length >= wanted && !strncmp(text + length - wanted, end, wanted);
}

static int is_watched(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path);
    size_t prefix = strlen(directory);
    return length > (ssize_t)prefix && !strncmp(path, directory, prefix) && path[prefix] == '/' &&
           (ends_with(path, (size_t)length, ".db") || ends_with(path, (size_t)length, "-wal"));
}

// Whether this call is to fail; errno says with what.
static int fails(int descriptor, uint32_t kind) {
    if (!control || !atomic_load(&control->failing)) return 0;
    int before = errno, watched = is_watched(descriptor);
    errno = before;
    if (!watched) return 0;
    atomic_fetch_add(&control->seen, 1);
    uint64_t random = atomic_fetch_add(&control->dice, 0x9e3779b97f4a7c15u); // splitmix64
    random = (random ^ (random >> 30)) * 0xbf58476d1ce4e5b9u;
    random = (random ^ (random >> 27)) * 0x94d049bb133111ebu;
    random ^= random >> 31;
    if (!(atomic_load(&control->failing) & kind) || random % 1000 >= atomic_load(&control->per_mille)) return 0;
    atomic_fetch_add(kind == WRITES ? &control->failed_writes : &control->failed_syncs, 1);
    errno = EIO;
    return 1;
}

#define FAILING(kind, result, name, parameters, ...)                        \
    result name parameters {                                                \
        static result(*_Atomic real) parameters;                            \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);    \
        return fails(descriptor, kind) ? (result)-1 : real(__VA_ARGS__);    \
    }

FAILING(WRITES, ssize_t, write, (int descriptor, const void *bytes, size_t length), descriptor, bytes, length)
FAILING(WRITES, ssize_t, pwrite, (int descriptor, const void *bytes, size_t length, off_t at), descriptor, bytes, length, at)
FAILING(WRITES, ssize_t, pwrite64, (int descriptor, const void *bytes, size_t length, off64_t at), descriptor, bytes, length, at)
FAILING(WRITES, int, ftruncate, (int descriptor, off_t length), descriptor, length)
FAILING(WRITES, int, ftruncate64, (int descriptor, off64_t length), descriptor, length)
FAILING(SYNCS, int, fsync, (int descriptor), descriptor)
FAILING(SYNCS, int, fdatasync, (int descriptor), descriptor)

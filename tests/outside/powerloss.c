// Keeps what a loss of power would undo. kill -9 leaves the page cache, so a process that forgets to
// sync loses nothing by it; this shim, loaded with LD_PRELOAD, remembers what was not synced.
//
// For each database file under $POWERLOSS_DIR (*.db, *-wal, *-journal) it writes, before each change of
// the file, the previous content of the range and the previous length to an undo log in $POWERLOSS_LOGS.
// A successful fsync or fdatasync drops the log as it was when the sync began: what is written while the
// sync runs goes to the next log and stays there. powerloss.py plays the logs back after a kill.
//
//     undo log:  <file name>.<generation>.undo, a sequence of `struct record`, each followed by its bytes
//     counters:  opened files, changes, syncs; a shared mapping, so that they survive a kill
//
// Not modelled, and refused loudly: O_TRUNC on, and shared writable mappings of, a database file. The
// removal of a file counts as durable at once (SQLite removes a -wal only after all of it is synced
// elsewhere). A file's locks are the process's: the shim never closes its own descriptor of a file,
// since that would drop them.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 64
#define DESCRIPTORS_MAX 65536
#define MAGIC 0x4f444e55u // "UNDO"

struct record {
    uint32_t magic;
    uint32_t reserved;
    uint64_t offset;   // of the range that was about to change
    uint64_t length;   // of that range
    uint64_t saved;    // bytes of previous content that follow; less than `length` at the file's end
    uint64_t old_size; // of the file before the change
};

struct file {
    pthread_mutex_t lock; // held over remembering and changing, so that a sync never falls between
    int in_use;
    dev_t device;
    ino_t inode;
    int reader;          // our own descriptor, to read the previous content
    int log;             // of the present generation; -1 while nothing is in it
    unsigned generation; // of the next record
    unsigned kept_from;  // the oldest generation that may still be on disk
    char path[PATH_MAX];
    char name[NAME_MAX + 1];
};

static struct file files[FILES_MAX];
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct file *) by_descriptor[DESCRIPTORS_MAX];
static char directory[PATH_MAX], logs[PATH_MAX];
static _Atomic uint64_t *counters; // opened, changes, syncs
enum { OPENED, CHANGES, SYNCS, COUNTERS };

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);

static void die(const char *why) {
    fprintf(stderr, "powerloss: %s (%s)\n", why, strerror(errno));
    abort();
}

static void find_real_calls(void) {
    if (real_mmap) return;
    *(void **)&real_open = dlsym(RTLD_NEXT, "open");
    *(void **)&real_openat = dlsym(RTLD_NEXT, "openat");
    *(void **)&real_close = dlsym(RTLD_NEXT, "close");
    *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    *(void **)&real_writev = dlsym(RTLD_NEXT, "writev");
    *(void **)&real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    *(void **)&real_pwritev = dlsym(RTLD_NEXT, "pwritev");
    *(void **)&real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    *(void **)&real_fallocate = dlsym(RTLD_NEXT, "fallocate");
    *(void **)&real_posix_fallocate = dlsym(RTLD_NEXT, "posix_fallocate");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_unlink = dlsym(RTLD_NEXT, "unlink");
    *(void **)&real_rename = dlsym(RTLD_NEXT, "rename");
    *(void **)&real_mmap = dlsym(RTLD_NEXT, "mmap");
}

__attribute__((constructor)) static void begin(void) {
    find_real_calls();
    const char *from = getenv("POWERLOSS_DIR"), *to = getenv("POWERLOSS_LOGS");
    if (!from || !to) return;
    if (!realpath(from, directory) || !realpath(to, logs)) die("POWERLOSS_DIR or POWERLOSS_LOGS is no folder");
    for (int i = 0; i < FILES_MAX; i++) pthread_mutex_init(&files[i].lock, NULL);
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/counters", logs);
    int counting = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (counting < 0 || real_ftruncate(counting, COUNTERS * sizeof(uint64_t))) die("counters");
    counters = real_mmap(NULL, COUNTERS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, counting, 0);
    if (counters == MAP_FAILED) die("counters");
    real_close(counting);
}

// Which files are watched

static int ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

static int is_watched(const char *path) {
    size_t length = strlen(directory);
    return length && path && !strncmp(path, directory, length) && path[length] == '/' &&
           (ends_with(path, ".db") || ends_with(path, "-wal") || ends_with(path, "-journal"));
}

static struct file *file_of(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX ? atomic_load(&by_descriptor[descriptor]) : NULL;
}

static int opened(int descriptor, const char *path, int flags) {
    if (descriptor < 0 || !is_watched(path)) return descriptor;
    if (flags & O_TRUNC) die("O_TRUNC on a database file is not modelled");
    if (descriptor >= DESCRIPTORS_MAX) die("too many descriptors");
    struct stat status;
    if (fstat(descriptor, &status)) die("fstat");
    pthread_mutex_lock(&files_lock);
    struct file *file = NULL;
    for (int i = 0; i < FILES_MAX && !file; i++)
        if (files[i].in_use && files[i].device == status.st_dev && files[i].inode == status.st_ino) file = &files[i];
    for (int i = 0; i < FILES_MAX && !file; i++) {
        if (files[i].in_use) continue;
        file = &files[i];
        file->device = status.st_dev;
        file->inode = status.st_ino;
        file->log = -1;
        file->generation = file->kept_from = 0;
        snprintf(file->path, sizeof file->path, "%s", path);
        snprintf(file->name, sizeof file->name, "%s", strrchr(path, '/') + 1);
        file->reader = real_open(path, O_RDONLY | O_CLOEXEC);
        if (file->reader < 0) die("opening a database file to read");
        file->in_use = 1;
        atomic_fetch_add(&counters[OPENED], 1);
    }
    if (!file) die("too many database files");
    pthread_mutex_unlock(&files_lock);
    atomic_store(&by_descriptor[descriptor], file);
    return descriptor;
}

// The undo log

static void log_path(char *path, size_t size, const char *name, unsigned generation) {
    snprintf(path, size, "%s/%s.%010u.undo", logs, name, generation);
}

// Remembers what `length` bytes at `offset` are before they change. Call with the file's lock held.
static void remember(struct file *file, off_t offset, size_t length) {
    struct stat status;
    if (fstat(file->reader, &status)) die("fstat");
    size_t saved = offset >= status.st_size ? 0
                   : (size_t)(status.st_size - offset) < length ? (size_t)(status.st_size - offset) : length;
    struct record head = {MAGIC, 0, (uint64_t)offset, length, saved, (uint64_t)status.st_size};
    char *bytes = malloc(sizeof head + saved);
    if (!bytes) die("malloc");
    memcpy(bytes, &head, sizeof head);
    for (size_t done = 0; done < saved;) {
        ssize_t n = pread(file->reader, bytes + sizeof head + done, saved - done, offset + (off_t)done);
        if (n <= 0) die("reading the previous content");
        done += (size_t)n;
    }
    if (file->log < 0) {
        char path[PATH_MAX + NAME_MAX + 32];
        log_path(path, sizeof path, file->name, file->generation);
        file->log = real_open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        if (file->log < 0) die("creating an undo log");
    }
    for (size_t done = 0; done < sizeof head + saved;) {
        ssize_t n = real_write(file->log, bytes + done, sizeof head + saved - done);
        if (n <= 0) die("writing an undo log");
        done += (size_t)n;
    }
    free(bytes);
    atomic_fetch_add(&counters[CHANGES], 1);
}

static void drop_logs(struct file *file, unsigned before) {
    char path[PATH_MAX + NAME_MAX + 32];
    for (; file->kept_from < before; file->kept_from++) {
        log_path(path, sizeof path, file->name, file->kept_from);
        if (real_unlink(path)) die("dropping an undo log");
    }
}

// Ends the present generation; returns the first one that a sync beginning now does not cover.
static unsigned seal(struct file *file) {
    if (file->log >= 0) {
        real_close(file->log);
        file->log = -1;
        file->generation++;
    }
    return file->generation;
}

static int synced(int descriptor, int (*real_sync)(int)) {
    struct file *file = file_of(descriptor);
    if (!file) return real_sync(descriptor);
    pthread_mutex_lock(&file->lock);
    unsigned covered = seal(file);
    pthread_mutex_unlock(&file->lock);
    int result = real_sync(descriptor);
    int error = errno;
    if (result == 0) {
        pthread_mutex_lock(&file->lock);
        drop_logs(file, covered);
        pthread_mutex_unlock(&file->lock);
        atomic_fetch_add(&counters[SYNCS], 1);
    }
    errno = error;
    return result;
}

// The intercepted calls

#define MODE_OF(flags)                                        \
    mode_t mode = 0;                                          \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                  \
        va_list rest;                                         \
        va_start(rest, flags);                                \
        mode = va_arg(rest, mode_t);                          \
        va_end(rest);                                         \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    find_real_calls();
    return opened(real_open(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    find_real_calls();
    return opened(real_open(path, flags | O_LARGEFILE, mode), path, flags);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    find_real_calls();
    return opened(real_openat(folder, path, flags, mode), path, flags);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    find_real_calls();
    return opened(real_openat(folder, path, flags | O_LARGEFILE, mode), path, flags);
}

int close(int descriptor) {
    find_real_calls();
    if (file_of(descriptor)) atomic_store(&by_descriptor[descriptor], NULL);
    return real_close(descriptor);
}

// Runs `call` as a change of `length` bytes at `offset`, both evaluated under the file's lock.
#define CHANGE(type, descriptor, offset, length, call)        \
    find_real_calls();                                        \
    struct file *file = file_of(descriptor);                  \
    if (!file) return call;                                   \
    pthread_mutex_lock(&file->lock);                          \
    remember(file, offset, length);                           \
    type result = call;                                       \
    int error = errno;                                        \
    pthread_mutex_unlock(&file->lock);                        \
    errno = error;                                            \
    return result;

static off_t position(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    return lseek(descriptor, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
}

static size_t length_of(const struct iovec *parts, int count) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    return length;
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    CHANGE(ssize_t, descriptor, position(descriptor), length, real_write(descriptor, bytes, length))
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    CHANGE(ssize_t, descriptor, position(descriptor), length_of(parts, count), real_writev(descriptor, parts, count))
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    CHANGE(ssize_t, descriptor, offset, length, real_pwrite(descriptor, bytes, length, offset))
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t offset) {
    return pwrite(descriptor, bytes, length, offset);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    CHANGE(ssize_t, descriptor, offset, length_of(parts, count), real_pwritev(descriptor, parts, count, offset))
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(descriptor, parts, count, offset);
}

static size_t cut_by(int descriptor, off_t length) {
    struct stat status;
    if (fstat(descriptor, &status)) die("fstat");
    return status.st_size > length ? (size_t)(status.st_size - length) : 0;
}

int ftruncate(int descriptor, off_t length) {
    CHANGE(int, descriptor, length, cut_by(descriptor, length), real_ftruncate(descriptor, length))
}

int ftruncate64(int descriptor, off64_t length) {
    return ftruncate(descriptor, length);
}

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    CHANGE(int, descriptor, offset, (size_t)length, real_fallocate(descriptor, mode, offset, length))
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    return fallocate(descriptor, mode, offset, length);
}

int posix_fallocate(int descriptor, off_t offset, off_t length) {
    CHANGE(int, descriptor, offset, (size_t)length, real_posix_fallocate(descriptor, offset, length))
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
    return posix_fallocate(descriptor, offset, length);
}

int fsync(int descriptor) {
    find_real_calls();
    return synced(descriptor, real_fsync);
}

int fdatasync(int descriptor) {
    find_real_calls();
    return synced(descriptor, real_fdatasync);
}

// Forgets a file that is no longer under `path`. Its reader stays open: see the top.
static void forget(const char *path) {
    if (!is_watched(path)) return;
    pthread_mutex_lock(&files_lock);
    for (int i = 0; i < FILES_MAX; i++) {
        struct file *file = &files[i];
        if (!file->in_use || strcmp(file->path, path)) continue;
        pthread_mutex_lock(&file->lock);
        drop_logs(file, seal(file));
        snprintf(file->name, sizeof file->name, "removed-%d", i); // writes to it may go on; they mean nothing
        file->path[0] = 0;
        file->device = 0;
        file->inode = 0;
        pthread_mutex_unlock(&file->lock);
    }
    pthread_mutex_unlock(&files_lock);
}

int unlink(const char *path) {
    find_real_calls();
    int result = real_unlink(path);
    if (result == 0) forget(path);
    return result;
}

int rename(const char *from, const char *to) {
    find_real_calls();
    if (is_watched(from)) {
        errno = ENOTSUP;
        die("renaming a database file is not modelled");
    }
    int result = real_rename(from, to);
    if (result == 0) forget(to);
    return result;
}

static void *map(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    find_real_calls();
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED) && file_of(descriptor))
        die("a shared writable mapping of a database file is not modelled");
    return real_mmap(address, length, protection, flags, descriptor, offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return map(address, length, protection, flags, descriptor, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off64_t offset) {
    return map(address, length, protection, flags, descriptor, offset);
}

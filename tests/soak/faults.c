/* File operations that go wrong on purpose: preloaded into a process, this library counts what it writes below a
   folder, and at the n-th such operation ends the process with SIGKILL or says that the disk is full. It works below
   Python, so that the files of SQLite and of safetensors count too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_AFTER, DISK_FULL };
#define DESCRIPTORS 65536

static char folder[4096];
static atomic_long operations;
static long at;
static int mode;
static atomic_uchar watched[DESCRIPTORS]; /* descriptors that write below the folder */

void faults_arm(const char *path, long number, int what) {
    strncpy(folder, path, sizeof folder - 1);
    operations = 0;
    at = number;
    mode = what;
}
long faults_count(void) { return operations; }

static void *find(void **function, const char *name) {
    if (!*function) *function = dlsym(RTLD_NEXT, name);
    return *function;
}
#define REAL(name) ((__typeof__(&name))find(&real_##name, #name))
#define DECLARE(name) static void *real_##name;
DECLARE(open) DECLARE(open64) DECLARE(openat) DECLARE(openat64) DECLARE(fopen) DECLARE(fopen64) DECLARE(close)
DECLARE(write) DECLARE(pwrite) DECLARE(pwrite64) DECLARE(writev) DECLARE(fsync) DECLARE(fdatasync) DECLARE(rename)
DECLARE(renameat) DECLARE(unlink) DECLARE(unlinkat) DECLARE(ftruncate) DECLARE(ftruncate64) DECLARE(truncate)
DECLARE(truncate64) DECLARE(mkdir) DECLARE(rmdir) DECLARE(link) DECLARE(symlink)

static int below(const char *path) {
    size_t length = strlen(folder);
    if (!length || !path) return 0;
    if (path[0] == '/') return !strncmp(path, folder, length);
    char here[4096];
    return getcwd(here, sizeof here) && !strncmp(here, folder, length); /* the harness works in that folder */
}
static int watches(int descriptor) { return descriptor >= 0 && descriptor < DESCRIPTORS && watched[descriptor]; }
static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether the operation fails for want of space; kills before it. */
static int begins(int needs_space) {
    long number = atomic_fetch_add(&operations, 1) + 1;
    if (mode == KILL_BEFORE && number == at) die();
    if (mode == DISK_FULL && number >= at && needs_space) return errno = ENOSPC, 1;
    return 0;
}
static void ends(void) { if (mode == KILL_AFTER && operations >= at) die(); }

static int opened(int descriptor, int writes) {
    if (descriptor >= 0 && descriptor < DESCRIPTORS) watched[descriptor] = writes;
    return descriptor;
}
static int writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN(name, parameters, path, call)                                                                             \
    int name parameters {                                                                                              \
        mode_t bits = 0;                                                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        if (flags & (O_CREAT | __O_TMPFILE)) bits = va_arg(rest, mode_t);                                              \
        va_end(rest);                                                                                                  \
        int ours = writing(flags) && below(path);                                                                      \
        if (ours && begins(flags & O_CREAT)) return -1;                                                                \
        int descriptor = opened(REAL(name) call, ours);                                                                \
        if (ours) ends();                                                                                              \
        return descriptor;                                                                                             \
    }
OPEN(open, (const char *path, int flags, ...), path, (path, flags, bits))
OPEN(open64, (const char *path, int flags, ...), path, (path, flags, bits))
OPEN(openat, (int where, const char *path, int flags, ...), path, (where, path, flags, bits))
OPEN(openat64, (int where, const char *path, int flags, ...), path, (where, path, flags, bits))

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *how) {                                                                    \
        int ours = strpbrk(how, "wa+") && below(path);                                                                 \
        if (ours && begins(1)) return NULL;                                                                            \
        FILE *file = REAL(name)(path, how);                                                                            \
        if (file) opened(fileno(file), ours);                                                                          \
        if (ours) ends();                                                                                              \
        return file;                                                                                                   \
    }
FOPEN(fopen)
FOPEN(fopen64)

int close(int descriptor) {
    if (watches(descriptor)) watched[descriptor] = 0;
    return REAL(close)(descriptor);
}

/* A write that kills or finds the disk full has written half. */
#define WRITE(name, parameters, call, half)                                                                            \
    ssize_t name parameters {                                                                                          \
        if (!watches(descriptor)) return REAL(name) call;                                                              \
        if (begins(1)) {                                                                                               \
            if (operations == at && n > 1) return REAL(name) half;                                                     \
            return errno = ENOSPC, -1;                                                                                 \
        }                                                                                                              \
        if (mode == KILL_AFTER && operations >= at) { (void)!REAL(name) half; die(); }                                 \
        return REAL(name) call;                                                                                        \
    }
WRITE(write, (int descriptor, const void *bytes, size_t n), (descriptor, bytes, n), (descriptor, bytes, n / 2))
WRITE(pwrite, (int descriptor, const void *bytes, size_t n, off_t offset), (descriptor, bytes, n, offset),
      (descriptor, bytes, n / 2, offset))
WRITE(pwrite64, (int descriptor, const void *bytes, size_t n, off64_t offset), (descriptor, bytes, n, offset),
      (descriptor, bytes, n / 2, offset))
WRITE(writev, (int descriptor, const struct iovec *bytes, int n), (descriptor, bytes, n), (descriptor, bytes, n / 2))

#define OPERATION(name, parameters, ours, call, needs_space)                                                           \
    int name parameters {                                                                                              \
        if (!(ours)) return REAL(name) call;                                                                           \
        if (begins(needs_space)) return -1;                                                                            \
        int result = REAL(name) call;                                                                                  \
        int error = errno;                                                                                             \
        ends();                                                                                                        \
        return errno = error, result;                                                                                  \
    }
OPERATION(fsync, (int descriptor), watches(descriptor), (descriptor), 0)
OPERATION(fdatasync, (int descriptor), watches(descriptor), (descriptor), 0)
OPERATION(ftruncate, (int descriptor, off_t n), watches(descriptor), (descriptor, n), 0)
OPERATION(ftruncate64, (int descriptor, off64_t n), watches(descriptor), (descriptor, n), 0)
OPERATION(truncate, (const char *path, off_t n), below(path), (path, n), 0)
OPERATION(truncate64, (const char *path, off64_t n), below(path), (path, n), 0)
OPERATION(rename, (const char *from, const char *to), below(to), (from, to), 0)
OPERATION(renameat, (int a, const char *from, int b, const char *to), below(to), (a, from, b, to), 0)
OPERATION(unlink, (const char *path), below(path), (path), 0)
OPERATION(unlinkat, (int where, const char *path, int flags), below(path), (where, path, flags), 0)
OPERATION(mkdir, (const char *path, mode_t bits), below(path), (path, bits), 1)
OPERATION(rmdir, (const char *path), below(path), (path), 0)
OPERATION(link, (const char *from, const char *to), below(to), (from, to), 1)
OPERATION(symlink, (const char *from, const char *to), below(to), (from, to), 1)

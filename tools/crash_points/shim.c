/* Counts a process's changes to the files below one folder, and ends or fails the n-th of them.

   Preloaded (LD_PRELOAD); `python -m tools.crash_points` builds, arms and reads it. Reads and closes are not counted:
   they change nothing. Neither are utimes, which a thread calls at any moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, HALF, FAIL };

static char root[PATH_MAX];
static size_t root_length;
static int mode = OFF, error_number, only_growing;
static long counter, first, last;
static int log_to = -1;

/* folder: absolute, without a slash at its end. From operation `from` to `to` (counted from 1) `what` happens.
   growing: only operations that need room on the disk fail; the others are counted and done. */
void faults_arm(const char *folder, int what, long from, long to, int number, int growing, int log_descriptor) {
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
    counter = 0, first = from, last = to, error_number = number, only_growing = growing, log_to = log_descriptor;
    mode = what;
}

long faults_count(void) { return counter; }

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static int at_descriptor(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int at_path(int folder, const char *path) {
    if (path[0] == '/') return below(path);
    if (folder != AT_FDCWD) return at_descriptor(folder);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) != NULL && below(here);
}

/* 0: do it. 1: it fails, errno is set. 2: do half of it, then end. */
static int due(const char *name, int grows, int is_ours) {
    if (mode == OFF || !is_ours) return 0;
    long number = __sync_add_and_fetch(&counter, 1);
    if (log_to >= 0) dprintf(log_to, "%ld %s\n", number, name);
    if (mode == COUNT || number < first || number > last) return 0;
    if (mode == KILL) kill(getpid(), SIGKILL);
    if (mode == HALF) return 2;
    if (only_growing && !grows) return 0;
    errno = error_number;
    return 1;
}

static void end(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define SIMPLE(type, name, grows, ours, parameters, arguments) \
    type name parameters { \
        REAL(name); \
        int saved = errno, what = due(#name, grows, mode != OFF && (ours)); \
        if (what == 1) return -1; \
        errno = saved; \
        type result = real arguments; \
        if (what == 2) end(); \
        return result; \
    }

#define CHANGES(flags) (((flags) & (O_CREAT | O_TRUNC)) != 0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t bits = va_arg(more, mode_t); va_end(more); \
        int saved = errno, what = due(#name, 1, mode != OFF && CHANGES(flags) && at_path(AT_FDCWD, path)); \
        if (what == 1) return -1; \
        errno = saved; \
        int result = real(path, flags, bits); \
        if (what == 2) end(); \
        return result; \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t bits = va_arg(more, mode_t); va_end(more); \
        int saved = errno, what = due(#name, 1, mode != OFF && CHANGES(flags) && at_path(folder, path)); \
        if (what == 1) return -1; \
        errno = saved; \
        int result = real(folder, path, flags, bits); \
        if (what == 2) end(); \
        return result; \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *content, size_t size) {
    REAL(write);
    int saved = errno, what = due("write", 1, mode != OFF && at_descriptor(descriptor));
    if (what == 1) return -1;
    errno = saved;
    ssize_t result = real(descriptor, content, what == 2 ? size / 2 : size);
    if (what == 2) end();
    return result;
}

SIMPLE(ssize_t, pwrite, 1, at_descriptor(d), (int d, const void *b, size_t n, off_t o), (d, b, n, o))
SIMPLE(ssize_t, pwrite64, 1, at_descriptor(d), (int d, const void *b, size_t n, off64_t o), (d, b, n, o))
SIMPLE(ssize_t, writev, 1, at_descriptor(d), (int d, const struct iovec *v, int n), (d, v, n))
SIMPLE(int, fsync, 1, at_descriptor(d), (int d), (d))
SIMPLE(int, fdatasync, 1, at_descriptor(d), (int d), (d))
SIMPLE(int, ftruncate, 1, at_descriptor(d), (int d, off_t n), (d, n))
SIMPLE(int, ftruncate64, 1, at_descriptor(d), (int d, off64_t n), (d, n))
SIMPLE(int, rename, 1, at_path(AT_FDCWD, a) || at_path(AT_FDCWD, b), (const char *a, const char *b), (a, b))
SIMPLE(int, renameat, 1, at_path(x, a), (int x, const char *a, int y, const char *b), (x, a, y, b))
SIMPLE(int, unlink, 0, at_path(AT_FDCWD, a), (const char *a), (a))
SIMPLE(int, unlinkat, 0, at_path(x, a), (int x, const char *a, int f), (x, a, f))
SIMPLE(int, rmdir, 0, at_path(AT_FDCWD, a), (const char *a), (a))
SIMPLE(int, mkdir, 1, at_path(AT_FDCWD, a), (const char *a, mode_t m), (a, m))
SIMPLE(int, mkdirat, 1, at_path(x, a), (int x, const char *a, mode_t m), (x, a, m))
SIMPLE(int, link, 1, at_path(AT_FDCWD, b), (const char *a, const char *b), (a, b))
SIMPLE(int, linkat, 1, at_path(y, b), (int x, const char *a, int y, const char *b, int f), (x, a, y, b, f))
SIMPLE(int, symlink, 1, at_path(AT_FDCWD, b), (const char *a, const char *b), (a, b))

/* These return the error instead of setting it. */
int posix_fallocate(int descriptor, off_t offset, off_t size) {
    REAL(posix_fallocate);
    int what = due("posix_fallocate", 1, mode != OFF && at_descriptor(descriptor));
    if (what == 1) return errno;
    int result = real(descriptor, offset, size);
    if (what == 2) end();
    return result;
}
int posix_fallocate64(int descriptor, off64_t offset, off64_t size) {
    REAL(posix_fallocate64);
    int what = due("posix_fallocate64", 1, mode != OFF && at_descriptor(descriptor));
    if (what == 1) return errno;
    int result = real(descriptor, offset, size);
    if (what == 2) end();
    return result;
}

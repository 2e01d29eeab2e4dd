/*
 * The kernel calls that zygotes and leaves need and Python does not offer.
 *
 * Written against the stable ABI with prototypes of its own, so that no Python header is needed to build it and one
 * file serves every CPython from 3.9 on. Nothing here decides anything: the order of the steps and what a failure
 * means stand in leaf.py and zygote.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The part of the stable ABI that is used (PEP 384). */
typedef struct _object PyObject;
typedef ssize_t Py_ssize_t;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef struct {
    const char *name;
    PyCFunction function;
    int flags;
    const char *doc;
} PyMethodDef;
typedef struct {
    struct {
        Py_ssize_t references;
        void *type;
    } head;
    PyObject *(*init)(void);
    Py_ssize_t index;
    PyObject *copy;
    const char *name;
    const char *doc;
    Py_ssize_t size;
    PyMethodDef *methods;
    void *slots, *traverse, *clear, *free;
} PyModuleDef;
enum { METH_VARARGS = 1, PYTHON_ABI_VERSION = 3 };

extern PyObject *PyExc_OSError;
extern PyObject *PyModule_Create2(PyModuleDef *, int);
extern int PyArg_ParseTuple(PyObject *, const char *, ...);
extern PyObject *Py_BuildValue(const char *, ...);
extern PyObject *PyErr_SetFromErrno(PyObject *);
extern PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
extern int PyBytes_AsStringAndSize(PyObject *, char **, Py_ssize_t *);
extern PyObject *PyList_New(Py_ssize_t);
extern int PyList_Append(PyObject *, PyObject *);
extern Py_ssize_t PyList_Size(PyObject *);
extern PyObject *PyList_GetItem(PyObject *, Py_ssize_t);
extern PyObject *PyLong_FromLong(long);
extern long PyLong_AsLong(PyObject *);
extern PyObject *PyErr_Occurred(void);
extern void Py_DecRef(PyObject *);
extern void *PyEval_SaveThread(void);
extern void PyEval_RestoreThread(void *);
extern void PyOS_BeforeFork(void);
extern void PyOS_AfterFork_Parent(void);
extern void PyOS_AfterFork_Child(void);

/* Kernel interfaces that older headers lack; numbers from 424 up are the same on every machine. */
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif
#define FLAG_PIDFD 0x00001000ULL
#define FLAG_PARENT 0x00008000ULL
#define FLAG_CHILD_CLEARTID 0x00200000ULL
#define FLAG_CHILD_SETTID 0x01000000ULL
#define FLAG_CLEAR_SIGHAND 0x100000000ULL

enum { MAX_DESCRIPTORS = 16, MAX_PACKET = 256 * 1024 };

static PyObject *failed(void) { return PyErr_SetFromErrno(PyExc_OSError); }

static PyObject *done(long result) { return result < 0 ? failed() : Py_BuildValue(""); }

/*
 * Where the C library keeps this thread's id. Its own fork() lets the kernel write the child's id there; a child made
 * without it would go on with the parent's, and a recursive mutex could take two threads for one.
 */
static void *thread_id_address(void) {
    void *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 && address != NULL) return address;
    /* A kernel without CONFIG_CHECKPOINT_RESTORE: the one word in the thread's block that holds the id. */
    int *words = (int *)(void *)pthread_self(), id = (int)syscall(SYS_gettid);
    for (size_t i = 0; i < 512; i++) {
        if (words[i] != id) continue;
        if (address != NULL) return NULL;
        address = &words[i];
    }
    return address;
}

/* fork(flags) -> (pid, pidfd), in the child (0, -1). The child is its parent's sibling: the daemon reaps it. */
static PyObject *ol_fork(PyObject *self, PyObject *args) {
    (void)self;
    unsigned long long flags;
    if (!PyArg_ParseTuple(args, "K", &flags)) return NULL;
    int pidfd = -1;
    void *id_address = thread_id_address(), *robust = NULL;
    size_t robust_size = 0;
    if (id_address == NULL) {
        errno = ENOTSUP;
        return failed();
    }
    syscall(SYS_get_robust_list, 0, &robust, &robust_size);
    uint64_t clone_args[8] = {
        flags | FLAG_PIDFD | FLAG_PARENT | FLAG_CLEAR_SIGHAND | FLAG_CHILD_SETTID | FLAG_CHILD_CLEARTID,
        (uint64_t)(uintptr_t)&pidfd,
        (uint64_t)(uintptr_t)id_address,
    };
    PyOS_BeforeFork();
    long pid = syscall(SYS_clone3, clone_args, sizeof clone_args);
    if (pid == 0) {
        if (robust != NULL) syscall(SYS_set_robust_list, robust, robust_size);
        PyOS_AfterFork_Child();
        return Py_BuildValue("(ii)", 0, -1);
    }
    int error = errno;
    PyOS_AfterFork_Parent();
    errno = error;
    return pid < 0 ? failed() : Py_BuildValue("(li)", pid, pidfd);
}

/* receive(socket) -> (packet, [descriptors]); an empty packet is the end. */
static PyObject *ol_receive(PyObject *self, PyObject *args) {
    (void)self;
    int fd;
    if (!PyArg_ParseTuple(args, "i", &fd)) return NULL;
    static char packet[MAX_PACKET];
    union {
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {packet, sizeof packet};
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    ssize_t size;
    void *thread = PyEval_SaveThread();
    do {
        size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    int error = errno;
    PyEval_RestoreThread(thread);
    errno = error;
    if (size < 0) return failed();
    PyObject *descriptors = PyList_New(0);
    if (descriptors == NULL) return NULL;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int each;
            memcpy(&each, CMSG_DATA(header) + i * sizeof(int), sizeof each);
            PyObject *number = PyLong_FromLong(each);
            if (number == NULL || PyList_Append(descriptors, number) < 0) return NULL;
            Py_DecRef(number);
        }
    }
    return Py_BuildValue("(NN)", PyBytes_FromStringAndSize(packet, size), descriptors);
}

/* send(socket, packet, [descriptors]) */
static PyObject *ol_send(PyObject *self, PyObject *args) {
    (void)self;
    int fd;
    PyObject *packet, *descriptors;
    char *bytes;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iOO", &fd, &packet, &descriptors)) return NULL;
    if (PyBytes_AsStringAndSize(packet, &bytes, &size) < 0) return NULL;
    Py_ssize_t count = PyList_Size(descriptors);
    if (count < 0) return NULL;
    if (count > MAX_DESCRIPTORS) count = MAX_DESCRIPTORS;
    union {
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {bytes, (size_t)size};
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        for (Py_ssize_t i = 0; i < count; i++) {
            int each = (int)PyLong_AsLong(PyList_GetItem(descriptors, i));
            if (PyErr_Occurred()) return NULL;
            memcpy(CMSG_DATA(header) + (size_t)i * sizeof(int), &each, sizeof each);
        }
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return done(sent);
}

/* set_ids(uid, gid): by raw calls, since there is one thread and the C library would look for others. */
static PyObject *ol_set_ids(PyObject *self, PyObject *args) {
    (void)self;
    int uid, gid;
    if (!PyArg_ParseTuple(args, "ii", &uid, &gid)) return NULL;
    if (syscall(SYS_setresgid, gid, gid, gid) < 0) return failed();
    return done(syscall(SYS_setresuid, uid, uid, uid));
}

/* attach(tree, path): puts a detached mount at path. */
static PyObject *ol_attach(PyObject *self, PyObject *args) {
    (void)self;
    int tree;
    const char *path;
    if (!PyArg_ParseTuple(args, "is", &tree, &path)) return NULL;
    enum { FROM_EMPTY_PATH = 4 };
    return done(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, FROM_EMPTY_PATH));
}

/* mount(type, path, flags, options) */
static PyObject *ol_mount(PyObject *self, PyObject *args) {
    (void)self;
    const char *type, *path, *options;
    unsigned long flags;
    if (!PyArg_ParseTuple(args, "ssks", &type, &path, &flags, &options)) return NULL;
    return done(mount(type, path, type, flags, options));
}

/* pivot(): makes the working directory the root and lets go of the old one. */
static PyObject *ol_pivot(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    if (syscall(SYS_pivot_root, ".", ".") < 0) return failed();
    if (umount2(".", MNT_DETACH) < 0) return failed();
    return done(chdir("/"));
}

/* unshare(flags) */
static PyObject *ol_unshare(PyObject *self, PyObject *args) {
    (void)self;
    int flags;
    if (!PyArg_ParseTuple(args, "i", &flags)) return NULL;
    return done(unshare(flags));
}

/* set_hostname(name) */
static PyObject *ol_set_hostname(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name)) return NULL;
    return done(sethostname(name, strlen(name)));
}

/* limit(open_files): open files, and no core dumps. */
static PyObject *ol_limit(PyObject *self, PyObject *args) {
    (void)self;
    unsigned long long open_files;
    if (!PyArg_ParseTuple(args, "K", &open_files)) return NULL;
    struct rlimit files = {open_files, open_files}, none = {0, 0};
    if (setrlimit(RLIMIT_NOFILE, &files) < 0) return failed();
    return done(setrlimit(RLIMIT_CORE, &none));
}

/* close_from(first): fork keeps close-on-exec descriptors, so each one above ours is closed here. */
static PyObject *ol_close_from(PyObject *self, PyObject *args) {
    (void)self;
    unsigned first;
    if (!PyArg_ParseTuple(args, "I", &first)) return NULL;
    return done(syscall(SYS_close_range, first, ~0U, 0));
}

/* drop_capabilities(): bounding, ambient, permitted, effective and inheritable. */
static PyObject *ol_drop_capabilities(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    for (int i = 0; i < 64; i++) {
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0) continue;
        if (errno == EINVAL) break;
        return failed();
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return failed();
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t none[6] = {0};
    return done(syscall(SYS_capset, &header, none));
}

/* no_new_privileges() */
static PyObject *ol_no_new_privileges(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return done(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* One Landlock rule: what may be done beneath path. A path that is missing needs none. */
static int landlock_allow(int rules, const char *path, uint64_t access) {
    struct {
        uint64_t access;
        int32_t parent;
    } __attribute__((packed)) rule = {access, open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent < 0) return errno == ENOENT ? 0 : -1;
    long result = syscall(SYS_landlock_add_rule, rules, 1, &rule, 0);
    int error = errno;
    close(rule.parent);
    errno = error;
    return (int)result;
}

/* restrict_files() -> the Landlock version used, 0 where the kernel has none. */
static PyObject *ol_restrict_files(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
    if (abi < 1) return PyLong_FromLong(0);
    const uint64_t execute = 1, write_file = 2, read_file = 4, read_dir = 8, truncate = 1 << 14, device = 1 << 15;
    uint64_t all = (1 << 13) - 1;
    if (abi >= 2) all |= 1 << 13;
    if (abi >= 3) all |= truncate;
    if (abi >= 5) all |= device;
    /* Handled: files; no network rule (the network namespace is empty); abstract sockets and signals stay inside. */
    uint64_t handled[3] = {all, 0, 3};
    int rules = (int)syscall(SYS_landlock_create_ruleset, handled, abi >= 6 ? 24 : abi >= 4 ? 16 : 8, 0);
    if (rules < 0) return failed();
    long result = landlock_allow(rules, "/", execute | read_file | read_dir);
    if (result == 0) result = landlock_allow(rules, "/tmp", all);
    if (result == 0) result = landlock_allow(rules, "/dev/shm", all);
    if (result == 0) result = landlock_allow(rules, "/dev", all & (read_file | write_file | truncate | device));
    if (result == 0) result = syscall(SYS_landlock_restrict_self, rules, 0);
    int error = errno;
    close(rules);
    errno = error;
    return result < 0 ? failed() : PyLong_FromLong(abi);
}

/* filter_calls(program): adds a seccomp filter. */
static PyObject *ol_filter_calls(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *program;
    char *bytes;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O", &program)) return NULL;
    if (PyBytes_AsStringAndSize(program, &bytes, &size) < 0) return NULL;
    struct {
        unsigned short count;
        void *instructions;
    } filter = {(unsigned short)(size / 8), bytes};
    return done(syscall(SYS_seccomp, 1, 0, &filter));
}

/* flush(): what C code has printed and not yet written. */
static PyObject *ol_flush(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    fflush(NULL);
    return Py_BuildValue("");
}

static PyMethodDef methods[] = {
    {"fork", ol_fork, METH_VARARGS, NULL},
    {"receive", ol_receive, METH_VARARGS, NULL},
    {"send", ol_send, METH_VARARGS, NULL},
    {"set_ids", ol_set_ids, METH_VARARGS, NULL},
    {"attach", ol_attach, METH_VARARGS, NULL},
    {"mount", ol_mount, METH_VARARGS, NULL},
    {"pivot", ol_pivot, METH_VARARGS, NULL},
    {"unshare", ol_unshare, METH_VARARGS, NULL},
    {"set_hostname", ol_set_hostname, METH_VARARGS, NULL},
    {"limit", ol_limit, METH_VARARGS, NULL},
    {"close_from", ol_close_from, METH_VARARGS, NULL},
    {"drop_capabilities", ol_drop_capabilities, METH_VARARGS, NULL},
    {"no_new_privileges", ol_no_new_privileges, METH_VARARGS, NULL},
    {"restrict_files", ol_restrict_files, METH_VARARGS, NULL},
    {"filter_calls", ol_filter_calls, METH_VARARGS, NULL},
    {"flush", ol_flush, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {
    .head = {1, NULL},
    .name = "native",
    .doc = "Kernel calls for zygotes and leaves.",
    .size = -1,
    .methods = methods,
};

__attribute__((visibility("default"))) PyObject *PyInit_native(void) {
    return PyModule_Create2(&module, PYTHON_ABI_VERSION);
}

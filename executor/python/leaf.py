"""A leaf: the child of a zygote that locks itself in, step by step, and then runs a handler or a script.

The steps run after the daemon has put the process into its cgroup and has written its id map. Each is a function of
its own; the order of STEPS is the order in which power is given up, and none is skipped. What runs before the last
step is code of ours and what the zygote's packages made of it; the handler is read after it.
"""

import json
import os
import sys

from _ol import environment, handler, native

CONTROL = 3
ID = 1000

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
NEW_CGROUP = 0x02000000

# Frames on the control socket: 4 bytes of length, one of kind, the payload. The daemon's kinds, then ours.
GO, CALL = b"G", b"C"
READY, STEP_FAILED, REPLY, RAISED, TOO_LARGE = b"A", b"F", b"R", b"E", b"X"


class Leaf:
    """What the steps act on: the descriptors that came with the fork and the daemon's order."""

    def __init__(self, control, stdout, stderr, root, code, env):
        self.control = control
        self.stdout = stdout
        self.stderr = stderr
        self.root = root
        self.code = code
        self.env = env
        self.order = {}


def take_ids(leaf):
    """The mapped id first: files of the mounts made below get an owner that exists on the host."""
    native.set_ids(ID, ID)


def attach_root(leaf):
    """The read-only root goes over the old one; from here paths are relative to it."""
    native.attach(leaf.root, "/")
    os.fchdir(leaf.root)


def attach_environment(leaf):
    """The one environment this sandbox sees."""
    if leaf.env is not None:
        native.attach(leaf.env, "ol/env")


def attach_code(leaf):
    """The function's own files."""
    native.attach(leaf.code, "ol/code")


def mount_scratch(leaf):
    """The two places that can be written, in memory that its cgroup pays."""
    mount_scratch_at("", leaf.order["tmp_bytes"])


def mount_scratch_at(root, size):
    """An empty /tmp and /dev/shm."""
    options = "size=%d,mode=1777" % size
    native.mount("tmpfs", root + "tmp", NOSUID | NODEV, options)
    native.mount("tmpfs", root + "dev/shm", NOSUID | NODEV, options)


def mount_proc(leaf):
    """A /proc of its own PID namespace. Before the old root goes: the kernel wants to see a whole one in place."""
    native.mount("proc", "proc", RDONLY | NOSUID | NODEV | NOEXEC, "")


def enter_root(leaf):
    """pivot_root, not chroot: the old root is unmounted, so there is nothing to climb back to."""
    native.pivot()


def new_session(leaf):
    """No controlling terminal, no process group shared with others."""
    os.setsid()


def own_cgroup_root(leaf):
    """Its cgroup looks like the top of the tree; now, because now the daemon has put the process there."""
    native.unshare(NEW_CGROUP)
    native.set_hostname("sandbox")


def limit_resources(leaf):
    """Open files, and no core dumps."""
    native.limit(leaf.order["max_open_files"])


def point_output(leaf):
    """Standard output and error to the daemon's pipes; standard input stays /dev/null."""
    os.dup2(leaf.stdout, 1)
    os.dup2(leaf.stderr, 2)


def close_descriptors(leaf):
    """Only 0, 1, 2 and the control socket stay; the latter does not pass to programs that are run."""
    os.dup2(leaf.control, CONTROL, False)
    leaf.control = CONTROL
    native.close_from(CONTROL + 1)


def drop_capabilities(leaf):
    """All of them, in every set, for good."""
    native.drop_capabilities()


def no_new_privileges(leaf):
    """Inherited from the zygote; said again because the two steps below rest on it."""
    native.no_new_privileges()


def restrict_files(leaf):
    """Landlock, where the kernel has it: writing only below /tmp and /dev/shm, whatever is mounted."""
    native.restrict_files()


def filter_calls(leaf):
    """A small filter on top of the zygote's large one: the calls that only building a sandbox needs."""
    for program in FILTERS:
        native.filter_calls(program)


STEPS = (
    take_ids,
    attach_root,
    attach_environment,
    attach_code,
    mount_scratch,
    mount_proc,
    enter_root,
    new_session,
    own_cgroup_root,
    limit_resources,
    point_output,
    close_descriptors,
    drop_capabilities,
    no_new_privileges,
    restrict_files,
    filter_calls,
)


def read_filters():
    """The compiled filters, read once in the zygote: a leaf has them in memory."""
    programs = []
    while True:
        try:
            with open("/ol/runtime/leaf.%d.bpf" % len(programs), "rb") as file:
                programs.append(file.read())
        except FileNotFoundError:
            return programs


FILTERS = read_filters()


def read_exactly(fd, size):
    """Reads size bytes; None at the end of the stream."""
    parts = []
    while size > 0:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_frame(fd):
    """Returns (kind, payload); ends the process when the daemon is gone."""
    header = read_exactly(fd, 5)
    payload = header and read_exactly(fd, int.from_bytes(header[:4], "big"))
    if payload is None:
        os._exit(0)
    return header[4:], payload


def write_frame(fd, kind, *parts):
    """Writes one frame."""
    size = sum(len(part) for part in parts)
    data = memoryview(b"".join((size.to_bytes(4, "big"), kind) + parts))
    while data:
        data = data[os.write(fd, data) :]


def lock_in(leaf, steps=STEPS):
    """Takes every step; tells the daemon which one failed and why."""
    for step in steps:
        try:
            step(leaf)
        except Exception as error:  # noqa: B902 - whatever it is, the daemon must hear of it
            reason = getattr(error, "strerror", None) or str(error)
            report = {"step": step.__name__, "error": reason}
            write_frame(leaf.control, STEP_FAILED, json.dumps(report).encode())
            os._exit(70)


def settle_in(order):
    """What the interpreter still believes about the zygote's world is set right."""
    environment.set_variables(order["environ"])
    if order["activate"]:
        environment.activate(order["site_packages"])
    else:
        environment.forget_misses()
    # Last: a handler called types.py must not stand in for the standard library's.
    sys.path.append("/ol/code")
    environment.reseed()
    environment.run_restore_hooks()


def settling_error(order):
    """Settles in; returns what a caller is told if that fails: an environment's files and hooks run code."""
    try:
        settle_in(order)
    except BaseException as error:  # noqa: B902 - hooks may raise anything
        return handler.describe(error)
    return None


def main(descriptors):
    """Runs the leaf from the fork to its end; never returns."""
    control, stdout, stderr, root, code = descriptors[:5]
    leaf = Leaf(control, stdout, stderr, root, code, descriptors[5] if len(descriptors) > 5 else None)
    kind, payload = read_frame(control)
    leaf.order = json.loads(payload)
    lock_in(leaf)
    write_frame(CONTROL, READY)
    order = leaf.order
    if order["script"] is not None:
        read_frame(CONTROL)
        settle_in(order)
        handler.run_script("/ol/code/" + order["file"], order["script"])
    serve(order)


def serve(order):
    """Answers calls until the daemon closes the socket. The handler is loaded by the first one, on its time.

    One that fails to load is tried again by the next call. The sandbox settles in once: where that fails, every call
    is told so, since a handler must not run without what its hooks do.
    """
    function, settled, unsettled = None, False, None
    while True:
        kind, payload = read_frame(CONTROL)
        number, size = payload[:4], int.from_bytes(payload[4:8], "big")
        context, event = payload[8 : 8 + size], payload[8 + size :]
        try:
            if not settled:
                settled, unsettled = True, settling_error(order)
            if unsettled is not None:
                body, kind = unsettled, RAISED
            else:
                function = function or handler.load(order["file"])
                body, kind = function(event, json.loads(context)), REPLY
        except BaseException as error:  # noqa: B902 - a handler may raise anything, SystemExit too
            body, kind = handler.describe(error), RAISED
        if len(body) > order["max_reply_bytes"]:
            body, kind = b"", TOO_LARGE
        handler.flush()
        write_frame(CONTROL, kind, number, body)

"""A zygote: a Python that has imported packages and is forked again and again.

It runs confined and without any privilege from its first line, has one thread, and waits for requests on its control
socket (descriptor 3). A fork goes like this: the daemon sends descriptors, the zygote clones a child with namespaces of
its own and answers with the child's pidfd, and from then on the daemon and the child talk over the child's own
socket. Nothing here parses anything but the daemon's packets. Python 3.9 syntax; import as little as possible, since
every fork copies what is loaded here.
"""

import builtins
import gc
import json
import os
import sys

sys.path.insert(0, "/ol/runtime")
from _ol import environment, leaf, native  # noqa: E402

sys.path.pop(0)

CONTROL = 3

NEW_NS = 0x00020000
NEW_CGROUP = 0x02000000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000

# A zygote joins its parent's PID namespace: those nest at most 32 deep, and the end of the first process of one ends
# all below it. A leaf gets its own; its cgroup namespace comes later, when the daemon has put it into its cgroup.
ZYGOTE = NEW_USER | NEW_NS | NEW_UTS | NEW_IPC | NEW_NET | NEW_CGROUP
LEAF = NEW_USER | NEW_NS | NEW_UTS | NEW_IPC | NEW_NET | NEW_PID


def threads():
    """How many threads this process has: more than one must not be forked."""
    return len(os.listdir("/proc/self/task"))


def reply(control, **fields):
    """Sends one packet."""
    native.send(control, json.dumps(fields).encode(), [])


def fork(control, flags, descriptors):
    """Clones a child; returns True in it. The parent hands the daemon the child's pidfd."""
    pid, pidfd = -1, -1
    try:
        count = threads()
        if count != 1:
            reply(control, error="%d threads run in the zygote" % count)
        else:
            pid, pidfd = native.fork(flags)
    except OSError as error:
        # A limit of the host: the zygote itself is fine.
        reply(control, error=error.strerror)
    if pid == 0:
        os.close(control)
        return True
    if pidfd >= 0:
        native.send(control, json.dumps({"pid": pid}).encode(), [pidfd])
        os.close(pidfd)
    for descriptor in descriptors:
        os.close(descriptor)
    return False


def import_all(names):
    """Imports each module; returns those that failed with their error. Output goes to the zygote's own log."""
    failures = []
    for name in names:
        try:
            __import__(name)
        except BaseException as error:  # noqa: B902 - a package may raise anything, SystemExit too
            failures.append([name, ("%s: %s" % (type(error).__name__, error))[:500]])
    return failures


def settle():
    """Makes what is loaded cheap to share: no garbage left, and collections in children leave these pages alone."""
    environment.remember_generators()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    native.flush()
    gc.collect()
    gc.freeze()


def become_zygote(descriptors):
    """The child's side of a new zygote: takes its id and its environment, drops what the clone gave it, imports."""
    control, env = descriptors
    native.close_from(max(descriptors) + 1)
    order = json.loads(native.receive(control)[0])
    step = "take_ids"
    try:
        native.set_ids(order["uid"], order["uid"])
        step = "attach_environment"
        native.attach(env, "/ol/env")
        # Its parent's hold what other packages have written.
        step = "mount_scratch"
        leaf.mount_scratch_at("/", order["tmp_bytes"])
        step = "drop_capabilities"
        native.drop_capabilities()
        step = "close_descriptors"
        os.close(env)
        os.dup2(control, CONTROL, False)
        native.close_from(CONTROL + 1)
    except OSError as error:
        reply(control, step=step, error=error.strerror)
        os._exit(70)
    environment.activate(order["site_packages"])
    failures = import_all(order["imports"])
    settle()
    count = threads()
    reply(CONTROL, failed=failures, threads=count)
    if count != 1:
        os._exit(71)


def serve():
    """Answers requests until the daemon is gone. Returns only in a new leaf, with its descriptors."""
    while True:
        packet, descriptors = native.receive(CONTROL)
        if not packet:
            os._exit(0)
        kind = json.loads(packet)["fork"]
        if fork(CONTROL, LEAF if kind == "leaf" else ZYGOTE, descriptors):
            if kind == "leaf":
                return descriptors
            become_zygote(descriptors)


def main():
    """Launched by the daemon's launcher; forks of this process go on from where they were cloned."""
    gc.disable()
    environment.add_site_builtins(builtins)
    settle()
    reply(CONTROL, failed=[], threads=threads())
    descriptors = serve()
    gc.enable()
    leaf.main(descriptors)


if __name__ == "__main__":
    main()

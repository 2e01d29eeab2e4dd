"""A handler that tries what a sandbox must not allow, and reports what it saw and what worked."""

import ctypes
import os
import socket

LIBC = ctypes.CDLL(None, use_errno=True)


def f(event):
    return {
        "capabilities": sorted(set(status("Cap"))),
        "no_new_privs": status("NoNewPrivs")[0],
        "seccomp": status("Seccomp:")[0],
        "interfaces": [name for _, name in socket.if_nameindex()],
        "parent": os.getppid(),
        "processes": [name for name in os.listdir("/proc") if name.isdigit()],
        "state_visible": os.path.exists(event["state"]),
        "written": [folder for folder in ("/", "/tmp", "/usr", "/etc", "/ol/env", "/ol/code") if writes(folder)],
        "allowed": [name for name, attempt in ATTEMPTS.items() if works(attempt, event)],
        "secrets": [name for name in os.environ if name.startswith(("OL_INDEX", "PIP_", "UV_", "AWS_SECRET"))],
    }


def status(start):
    with open("/proc/self/status") as lines:
        return [line.split(":", 1)[1].strip() for line in lines if line.startswith(start)]


def writes(folder):
    path = os.path.join(folder, "written-by-a-sandbox")
    try:
        with open(path, "w"):
            pass
        os.unlink(path)
    except OSError:
        return False
    return True


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")


def connect_out(event):
    with socket.socket() as outside:
        outside.settimeout(1)
        outside.connect(("192.0.2.1", 80))


ATTEMPTS = {
    "become root": lambda event: os.setuid(0),
    "chroot": lambda event: os.chroot("/tmp"),
    "mount": lambda event: checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "unmount": lambda event: checked(LIBC.umount2(b"/tmp", 2)),
    "a namespace": lambda event: checked(LIBC.unshare(0x10000000)),
    "signal a host process": lambda event: os.kill(event["host_pid"], 0),
    "reach a network": connect_out,
    "set the host name": lambda event: checked(LIBC.sethostname(b"x", 1)),
    "open raw memory": lambda event: os.open("/dev/mem", os.O_RDONLY),
    # Fails where there is nobody else to signal: neither the zygote nor another sandbox is in sight.
    "signal everybody else": lambda event: os.kill(-1, 0),
}


def works(attempt, event):
    try:
        attempt(event)
    except OSError:
        return False
    return True

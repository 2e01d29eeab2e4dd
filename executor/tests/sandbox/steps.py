"""Runs the leaf's steps against a kernel that only takes notes: `steps.py <folder with _ol> [call that fails]`."""

import json
import os
import sys
import types

notes = []
failing = sys.argv[2] if len(sys.argv) > 2 else None


def recorder(name):
    def call(*args):
        notes.append([name, *[arg for arg in args if not isinstance(arg, bytes)]])
        if name == failing:
            raise OSError(1, "Operation not permitted")

    return call


class Native(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return recorder(name)


sys.path.insert(0, sys.argv[1])
import _ol  # noqa: E402

sys.modules["_ol.native"] = _ol.native = Native("_ol.native")
from _ol import leaf  # noqa: E402

real_write, real_exit = os.write, os._exit
sent = []
leaf.os = types.SimpleNamespace(
    fchdir=recorder("fchdir"),
    setsid=recorder("setsid"),
    dup2=recorder("dup2"),
    write=lambda fd, data: sent.append(bytes(data)) or len(data),
    _exit=lambda code: sys.exit(print(json.dumps({"notes": notes, "sent": sent[-1][5:].decode()}))),
)
leaf.FILTERS = [b"filter", b"filter"]
subject = leaf.Leaf(10, 11, 12, 13, 14, 15)
subject.order = {"tmp_bytes": 4096, "max_open_files": 64}
leaf.lock_in(subject)
print(json.dumps({"notes": notes, "steps": [step.__name__ for step in leaf.STEPS]}))

"""Compiles Python sources to byte code for ol-pkgfs: one length-prefixed frame in, one out (empty: no byte code).

Sources are untrusted data: they are compiled, never run, and by a process that has given up its rights.
"""

import encodings.ascii
import encodings.latin_1
import encodings.utf_8_sig
import importlib.util
import marshal
import os
import resource
import struct
import sys

MEMORY_BYTES = 1 << 30
# Flags of a .pyc (PEP 552): hash-based, never checked against the source.
UNCHECKED_HASH = 0b01


def drop_rights():
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


def compiled(source):
    code = compile(source, "<ol>", "exec", dont_inherit=True, optimize=0)
    head = importlib.util.MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH)
    return head + importlib.util.source_hash(source) + marshal.dumps(code)


def main():
    drop_rights()
    while True:
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:
            return
        source = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
        try:
            answer = compiled(source)
        except (SyntaxError, ValueError, LookupError, ImportError, RecursionError, MemoryError, OSError):
            answer = b""
        sys.stdout.buffer.write(struct.pack("<I", len(answer)) + answer)
        sys.stdout.buffer.flush()


main()

"""Prints, as one JSON object, what ol needs to know about the interpreter that runs it.

Run as `python -I -S -c <this>`; works on any Python 3, so that a version that is too old can be named.
"""

import json
import os
import platform
import struct
import sys
import sysconfig


def glibc():
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        return [int(part) for part in version.split(".")[:2]] if name == "glibc" else None
    except (AttributeError, OSError, TypeError, ValueError):
        return None


def musl():
    import glob
    import re
    import subprocess

    for loader in sorted(glob.glob("/lib/ld-musl-*.so.1")):
        done = subprocess.run([loader], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        found = re.search(r"Version (\d+)\.(\d+)", done.stderr.decode("ascii", "replace"))
        if found:
            return [int(found.group(1)), int(found.group(2))]
    return None


def full_version(info):
    text = "{}.{}.{}".format(*info[:3])
    kind = info.releaselevel
    return text if kind == "final" else text + kind[0] + str(info.serial)


def markers():
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": full_version(sys.implementation.version),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version().rstrip("+"),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def stdlib():
    paths = sysconfig.get_paths()
    found = [paths["stdlib"], paths["platstdlib"], sysconfig.get_config_var("DESTSHARED")]
    found += [path for path in sys.path if path.startswith((sys.base_prefix, sys.base_exec_prefix))]
    kept = []
    for path in found:
        if path and os.path.exists(path) and path not in kept:
            kept.append(path)
    return kept


def main():
    libc = glibc()
    print(
        json.dumps(
            {
                "path": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
                "base_prefix": sys.base_prefix,
                "base_exec_prefix": sys.base_exec_prefix,
                "stdlib": stdlib(),
                "library_dir": sysconfig.get_config_var("LIBDIR")
                if sysconfig.get_config_var("Py_ENABLE_SHARED")
                else None,
                "implementation": sys.implementation.name,
                "version": list(sys.version_info[:3]),
                "cache_tag": sys.implementation.cache_tag,
                "extension_suffix": sysconfig.get_config_var("EXT_SUFFIX"),
                "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
                "debug": hasattr(sys, "gettotalrefcount"),
                "machine": platform.machine(),
                "pointer_bytes": struct.calcsize("P"),
                "glibc": libc,
                "musl": None if libc else musl(),
                "markers": markers(),
            }
        )
    )


main()

"""What a process forked from a zygote has to set right in its interpreter."""

import gc
import os
import site
import sys

_seen_pth = set()
_generators = []


def add_site_builtins(builtins):
    """`exit`, `help` and kin, which `site` would have added had it been run."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    del builtins


def activate(site_packages):
    """Makes `/ol/env` the interpreter's environment. Safe to call again after another one was mounted there."""
    sys.prefix = sys.exec_prefix = "/ol/env"
    sys.executable = sys._base_executable = "/ol/env/bin/python"
    if site_packages not in sys.path:
        sys.path.append(site_packages)
    forget_misses()
    try:
        names = sorted(os.listdir(site_packages))
    except OSError:
        return
    known = set(sys.path)
    for name in names:
        if name.endswith(".pth") and not name.startswith(".") and name not in _seen_pth:
            _seen_pth.add(name)
            site.addpackage(site_packages, name, known)


def forget_misses():
    """Drops what the import system believes about folders: another mount may lie there now."""
    for path, finder in list(sys.path_importer_cache.items()):
        if finder is None:
            del sys.path_importer_cache[path]
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()
    # It keeps each folder's listing for as long as the folder's time stays the same, and in a mounted environment that
    # is one constant. Not by importlib.invalidate_caches(), which would import it. Python 3.9 keeps nothing.
    for name in ("importlib.metadata", "importlib_metadata"):
        folders = getattr(sys.modules.get(name), "FastPath", None)
        clear = getattr(getattr(folders, "__new__", None), "cache_clear", None)
        if clear is not None:
            clear()


def set_variables(variables):
    """Gives the process exactly these environment variables."""
    os.environ.clear()
    for name, value in variables:
        try:
            os.environ[name] = value
        except (ValueError, OSError):
            pass  # a name the C library refuses ('', 'A=B'); the daemon checks names of functions' variables


def remember_generators():
    """Notes random generators made at import time, so that each leaf can give them a seed of its own.

    Done once in each zygote: looking at every object takes milliseconds. What its parents had found stays noted:
    they have frozen it, and frozen objects are not listed again.
    """
    kinds = []
    if "random" in sys.modules:
        kinds.append(sys.modules["random"].Random)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        kinds += [numpy_random.Generator, numpy_random.RandomState]
    if not kinds:
        return
    wanted = tuple(kinds)
    # By type(), not isinstance(): that would run the __class__ of every lazy proxy that a package has made.
    _generators.extend(each for each in gc.get_objects() if issubclass(type(each), wanted))


def reseed():
    """Gives every generator that was found a new seed: siblings must not draw the same numbers.

    `secrets`, `uuid`, OpenSSL and the module-level functions of `random` reseed themselves.
    """
    for generator in _generators:
        try:
            if hasattr(generator, "bit_generator"):
                bits = generator.bit_generator
                bits.state = type(bits)().state
            else:
                generator.seed()
        except Exception:  # noqa: B902 - a subclass may refuse; the others still get theirs
            continue
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def run_restore_hooks():
    """Hooks registered with AWS's `snapshot_restore_py`: a handler written for SnapStart works unchanged."""
    hooks = sys.modules.get("snapshot_restore_py")
    if hooks is None or not hasattr(hooks, "get_after_restore"):
        return
    for function, args, kwargs in hooks.get_after_restore():
        function(*args, **kwargs)

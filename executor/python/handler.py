"""Loads and runs what a user has written."""

import json
import os
import sys
import time

from _ol import native

ModuleType = type(sys)


class Context:
    """What `handler(event, context)` gets second; the names are AWS Lambda's."""

    def __init__(self, fields):
        self.aws_request_id = fields["request_id"]
        self.function_name = fields["function"]
        self.memory_limit_in_mb = fields["memory_mb"]
        self._deadline_ms = time.monotonic() * 1000 + fields["timeout_ms"] if fields["timeout_ms"] else None

    def get_remaining_time_in_millis(self):
        """Time left before the sandbox is killed."""
        if self._deadline_ms is None:
            return sys.maxsize
        return max(0, int(self._deadline_ms - time.monotonic() * 1000))


class BadHandler(Exception):
    """The file holds nothing to call."""


def run_file(path, module):
    """Executes a source file in a module's namespace."""
    with open(path, "rb") as file:
        source = file.read()
    exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)


def load(file):
    """Returns a function from (event as JSON bytes, fields of the context) to the result as JSON bytes."""
    path = "/ol/code/" + file
    name = os.path.splitext(os.path.basename(file))[0]
    module = ModuleType(name)
    module.__file__ = path
    # Never in place of one that is loaded: a file called types.py is the handler's affair alone.
    fresh = sys.modules.setdefault(name, module) is module
    try:
        run_file(path, module)
    except BaseException:
        if fresh:
            del sys.modules[name]
        raise
    for attribute, with_context in (("f", False), ("handler", True)):
        function = getattr(module, attribute, None)
        if callable(function):
            return caller(function, with_context)
    raise BadHandler("%s defines neither f(event) nor handler(event, context)" % file)


def caller(function, with_context):
    """Wraps a handler in JSON."""

    def call(event, fields):
        event = json.loads(event)
        result = function(event, Context(fields)) if with_context else function(event)
        if hasattr(result, "__await__"):
            import asyncio

            result = asyncio.run(await_it(result))
        return json.dumps(result, allow_nan=False).encode()

    return call


async def await_it(awaitable):
    """asyncio.run takes coroutines only."""
    return await awaitable


def describe(error):
    """An exception as the JSON that a caller gets. Must not fail whatever the exception does."""
    import traceback

    try:
        frames = traceback.extract_tb(error.__traceback__)
        trace = traceback.format_list([each for each in frames if not each.filename.startswith("/ol/runtime/")])
    except BaseException:  # noqa: B902 - a hostile exception may break its own traceback
        trace = []
    try:
        message = str(error)
    except BaseException:  # noqa: B902 - and its own text
        message = "(its text could not be made)"
    fields = {
        "error_type": type(error).__name__,
        "message": whole(message[:65536]),
        "stack_trace": [whole(line[:4096]) for line in trace[-100:]],
    }
    return json.dumps(fields).encode()


def whole(text):
    """Text that JSON can carry: a file name that is not UTF-8 has halves of characters."""
    return text.encode("utf-8", "replace").decode()


def flush():
    """Everything printed so far is in the pipe when the reply is sent."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: B902 - closed or replaced by the handler
            continue
    native.flush()


def run_script(path, args):
    """Runs a script as `python script args…` would, and ends the process with its exit code."""
    module = ModuleType("__main__")
    module.__file__ = path
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [path] + args
    # Its output is watched by a person: line by line.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        run_file(path, module)
        code = 0
    except SystemExit as exit:
        code = exit_code(exit.code)
    except BaseException as error:  # noqa: B902 - KeyboardInterrupt and kin too
        print_exception(error)
        code = 1
    end(code)


def exit_code(value):
    """What the interpreter makes of SystemExit's argument."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    print(value, file=sys.stderr)
    return 1


def print_exception(error):
    """The traceback without our own frames."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith("/ol/runtime/"):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def end(code):
    """Ends as the interpreter would: threads joined, exit functions run, output flushed."""
    import atexit

    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:  # noqa: B902 - the exit code stands
        print_exception(error)
    flush()
    os._exit(code)

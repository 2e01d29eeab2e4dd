//! Compiled extension modules, made with the system's C compiler and no Python headers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Own prototypes of the few names of the stable ABI that the module needs: it loads in any CPython from 3.9 on.
const SOURCE: &str = r#"
typedef struct object PyObject;
typedef struct { const char *name; PyObject *(*call)(PyObject *, PyObject *); int flags; const char *doc; } Method;
typedef struct {
    struct { long refcount; void *type; void *init; long index; void *copy; } base;
    const char *name, *doc;
    long size;
    Method *methods;
    void *slots, *traverse, *clear, *release;
} Definition;
extern PyObject *PyModule_Create2(Definition *, int);
extern PyObject *PyLong_FromLong(long);

static PyObject *answer(PyObject *self, PyObject *arguments) { (void)self; (void)arguments; return PyLong_FromLong(42); }
static Method methods[] = {{"answer", answer, 4 /* METH_NOARGS */, "42"}, {0, 0, 0, 0}};
static Definition definition = {{1, 0, 0, 0, 0}, NAME, 0, -1, methods, 0, 0, 0, 0};
PyObject *INIT(void) { return PyModule_Create2(&definition, 3 /* PYTHON_ABI_VERSION of the stable ABI */); }
"#;

/// The C compiler on `PATH`, if there is one.
pub fn compiler() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let path = std::env::var_os("PATH")?;
            let mut candidates = std::env::split_paths(&path)
                .flat_map(|folder| ["cc", "gcc", "clang"].map(|name| folder.join(name)));
            candidates.find(|candidate| candidate.is_file())
        })
        .as_deref()
}

/// The bytes of a shared library with one module, `name`, whose function `answer()` returns 42.
///
/// # Panics
/// Where there is no C compiler (ask [`crate::skip::needs_compiler`] first) or it fails.
pub(crate) fn compile(name: &str) -> Vec<u8> {
    let compiler = compiler().expect("a C compiler on PATH");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, library) = (folder.path().join("module.c"), folder.path().join("module.so"));
    std::fs::write(&source, SOURCE).expect("writing the source");
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"])
        .arg(format!("-DNAME=\"{name}\""))
        .arg(format!("-DINIT=PyInit_{name}"))
        .arg("-o")
        .args([&library, &source])
        .output()
        .expect("running the C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(&library).expect("reading the library")
}

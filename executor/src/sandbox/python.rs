use std::path::{Path, PathBuf};

use super::StartError;

/// What sandboxes need to know of the base interpreter.
#[derive(Clone, Debug)]
pub struct Python {
    /// The real executable, no shim and no virtual environment's link.
    pub executable: PathBuf,
    /// Its `sys.base_prefix`.
    pub prefix: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// Whether it is built without the global lock: its objects look different to our extension module.
    pub free_threaded: bool,
}

impl From<&mirror::Interpreter> for Python {
    fn from(interpreter: &mirror::Interpreter) -> Python {
        let (major, minor, _) = interpreter.version;
        Python {
            executable: interpreter.path.clone(),
            prefix: interpreter.base_prefix.clone(),
            version: (major.into(), minor.into()),
            free_threaded: interpreter.free_threaded,
        }
    }
}

impl Python {
    /// Where an environment of this interpreter keeps its packages, as seen in a sandbox.
    pub fn site_packages(&self) -> String {
        format!("/ol/env/lib/python{}.{}/site-packages", self.version.0, self.version.1)
    }

    /// Whether zygotes can run on it.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let (major, minor) = self.version;
        let reason = match self.version {
            _ if self.free_threaded => "it is a free-threaded build".into(),
            (3, 9..) => return Ok(()),
            _ => format!("it is CPython {major}.{minor}, and 3.9 is the oldest that works"),
        };
        Err(StartError::Python { path: self.executable.clone(), reason })
    }

    /// Whether the interpreter lies where every sandbox sees it anyway.
    pub(crate) fn below_usr(&self) -> bool {
        self.prefix.starts_with(Path::new("/usr"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_cannot_fork_zygotes_is_refused_by_name() {
        let python = |version, free_threaded| Python {
            executable: "/opt/bin/python3".into(),
            prefix: "/opt".into(),
            version,
            free_threaded,
        };
        assert!(python((3, 9), false).check().is_ok());
        let text = |python: Python| python.check().unwrap_err().to_string();
        assert!(text(python((3, 13), true)).contains("/opt/bin/python3: it is a free-threaded build"));
        assert!(text(python((3, 8), false)).contains("CPython 3.8"));
    }
}

use std::path::{Path, PathBuf};

/// What sandboxes need to know of the base interpreter.
#[derive(Clone, Debug)]
pub struct Python {
    /// The real executable, no shim and no virtual environment's link.
    pub executable: PathBuf,
    /// Its `sys.base_prefix`.
    pub prefix: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl From<&mirror::Interpreter> for Python {
    fn from(interpreter: &mirror::Interpreter) -> Python {
        let (major, minor, _) = interpreter.version;
        Python {
            executable: interpreter.path.clone(),
            prefix: interpreter.base_prefix.clone(),
            version: (major.into(), minor.into()),
        }
    }
}

impl Python {
    /// Where an environment of this interpreter keeps its packages, as seen in a sandbox.
    pub fn site_packages(&self) -> String {
        format!("/ol/env/lib/python{}.{}/site-packages", self.version.0, self.version.1)
    }

    /// Whether the interpreter lies where every sandbox sees it anyway.
    pub(crate) fn below_usr(&self) -> bool {
        self.prefix.starts_with(Path::new("/usr"))
    }
}

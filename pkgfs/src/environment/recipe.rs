use std::fs;
use std::io;
use std::path::Path;

use mirror::{Interpreter, LockedWheel, Sha256, WheelName};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::remote::RemoteFile;
use crate::tree::identity;

/// Version of how environments are laid out: another layout is another environment.
const LAYOUT: &str = "1";
/// Hexadecimal digits of an id: 128 bits of the digest.
const ID_DIGITS: usize = 32;

/// All that is needed to make an environment again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Recipe {
    layout: String,
    pub(super) interpreter: Interpreter,
    pub(super) wheels: Vec<RecipeWheel>,
}

/// One wheel of a lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RecipeWheel {
    pub(super) name: WheelName,
    url: Url,
    sha256: Sha256,
    size: Option<u64>,
}

impl From<LockedWheel> for RecipeWheel {
    fn from(wheel: LockedWheel) -> Self {
        let LockedWheel { name, url, sha256, size } = wheel;
        RecipeWheel { name, url, sha256, size }
    }
}

impl RecipeWheel {
    pub(super) fn file(&self) -> RemoteFile {
        RemoteFile { url: self.url.clone(), sha256: Some(self.sha256), size: self.size }
    }
}

impl Recipe {
    pub(super) fn new(interpreter: Interpreter, mut wheels: Vec<RecipeWheel>) -> Recipe {
        wheels.sort_by_key(|wheel| wheel.sha256);
        wheels.dedup_by_key(|wheel| wheel.sha256);
        Recipe { layout: LAYOUT.into(), interpreter, wheels }
    }

    /// Depends on the wheels' contents and the interpreter, not on where they came from.
    pub(super) fn id(&self) -> String {
        let version = self.interpreter.version_text();
        let (python, path) = (self.interpreter.python_name(), self.interpreter.path.to_string_lossy());
        let mut parts: Vec<&[u8]> =
            vec![self.layout.as_bytes(), version.as_bytes(), python.as_bytes(), path.as_bytes()];
        parts.extend(self.wheels.iter().map(|wheel| wheel.sha256.0.as_slice()));
        let mut digits = identity("environment", &parts).to_string();
        digits.truncate(ID_DIGITS);
        digits
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        if fs::read(path).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        crate::durable::write(path, &text)
    }

    /// `None` where there is none, or one of another layout.
    pub(super) fn load(path: &Path) -> io::Result<Option<Recipe>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        match serde_json::from_slice::<Recipe>(&text) {
            Ok(recipe) => Ok(Some(recipe).filter(|recipe| recipe.layout == LAYOUT)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "environment cannot be read; make it again");
                Ok(None)
            }
        }
    }
}

/// Whether `text` can be an environment's name.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

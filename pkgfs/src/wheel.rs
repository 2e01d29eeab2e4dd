//! One wheel: its members, how each is verified, and what an installer would do with it. Learned from a few ranges
//! of the file, kept in `<state>/wheels`, so that opening it again costs no request.
//!
//! A range reader cannot check the wheel's own digest, so RECORD is believed as it comes (over TLS) from where the
//! index's page says the wheel is, and from nowhere else; every other member is held against RECORD before a byte of
//! it is served. A wheel from elsewhere is fetched whole and its digest checked first.

mod index;
mod place;
mod shelf;
mod window;

use std::sync::Arc;

use mirror::archive::{ArchiveError, Member};
use mirror::{Sha256, WheelName};
use serde::{Deserialize, Serialize};

use crate::dist_info::{DistInfoError, Script};
use crate::record::RecordError;
use crate::remote::RemoteError;

pub(crate) use place::Place;
use place::Places;
pub(crate) use shelf::{Arrivals, Shelf, ShelfLimits};

/// A wheel that can be read.
#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) index: WheelIndex,
    places: Places,
}

impl Wheel {
    fn new(index: WheelIndex, place: Place) -> Wheel {
        Wheel { index, places: Places::new(place) }
    }
}

/// What is known of a wheel without reading its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WheelIndex {
    /// Version of this format.
    format: u32,
    pub(crate) name: WheelName,
    pub(crate) sha256: Sha256,
    /// Bytes of the whole file.
    pub(crate) bytes: u64,
    /// Name of the `.dist-info` folder.
    pub(crate) dist_info: String,
    /// Files by offset; folders, RECORD and its signatures are left out.
    pub(crate) entries: Vec<Entry>,
    /// Console and GUI scripts to make.
    pub(crate) scripts: Vec<Script>,
    /// What is wrong with the wheel without making it unusable.
    pub(crate) problems: Vec<String>,
}

/// One file of a wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) member: Member,
    pub(crate) trust: Trust,
    /// For a Python script in `.data/scripts`: what it becomes when installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) relaunched: Option<String>,
}

/// How a member is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trust {
    /// It must have this digest.
    Sha256(Sha256),
    /// It cannot be, for this reason, and is never served.
    Refused(String),
}

/// Why a wheel cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("wheel {wheel} cannot be opened: {reason}")]
pub struct WheelError {
    wheel: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("{0}")]
    Remote(#[from] RemoteError),
    #[error("it is refused: {0}")]
    Archive(#[from] ArchiveError),
    #[error("it is refused: {0}")]
    Record(#[from] RecordError),
    #[error("it is refused: {0}")]
    DistInfo(#[from] DistInfoError),
    #[error("it is refused: {0}")]
    Malformed(String),
    #[error("the index gives no sha256 for it")]
    NoDigest,
    #[error("the index did not answer in {0} ms (pkgfs.read_timeout_ms)")]
    TimedOut(u64),
    #[error(
        "the index does not list it with this sha256; take it from the index, or set pkgfs.unlisted_wheels to let locks name other places"
    )]
    Unlisted,
    #[error("opening it was given up")]
    GivenUp,
}

impl WheelError {
    fn new(wheel: &WheelName, reason: impl Into<Reason>) -> WheelError {
        WheelError { wheel: wheel.file_name().to_owned(), reason: reason.into() }
    }

    /// Whether the index is at fault, not the wheel: another try may succeed.
    pub(crate) fn upstream_down(&self) -> bool {
        matches!(self.reason, Reason::Remote(RemoteError::Down(_)) | Reason::TimedOut(_))
    }
}

impl WheelIndex {
    /// Name of the folder beside `.dist-info` whose files go elsewhere.
    pub(crate) fn data_folder(&self) -> String {
        format!("{}.data", self.dist_info.strip_suffix(".dist-info").unwrap_or(&self.dist_info))
    }
}

/// Shared by all that wait for one wheel.
pub(crate) type OpenResult = Result<Arc<Wheel>, Arc<WheelError>>;

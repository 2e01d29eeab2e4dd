/// Why an archive, or one member of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum ArchiveError {
    #[error(
        "no ZIP end record stands at the end of the file: not a ZIP archive, cut short, or followed by other data"
    )]
    NoEnd,
    #[error("more than one ZIP end record fits the file: readers would disagree about its contents")]
    AmbiguousEnd,
    #[error("the archive spans several disks")]
    Spanned,
    #[error("{0} is cut short")]
    Truncated(&'static str),
    #[error("the ZIP64 end record contradicts the end record, or does not stand before it")]
    BadZip64,
    #[error("the central directory does not fill the space between the last member and the end record")]
    BadDirectoryBounds,
    #[error("the central directory takes {bytes} bytes, {limit} are allowed")]
    DirectoryTooLarge { bytes: u64, limit: u64 },
    #[error("the archive has {members} members, {limit} are allowed")]
    TooManyMembers { members: u64, limit: u64 },
    #[error("the central directory lists {found} members, the end record says {expected}")]
    WrongCount { found: u64, expected: u64 },
    #[error("entry {index} of the central directory is malformed: {what}")]
    BadEntry { index: u64, what: &'static str },
    #[error("member name {name:?} is refused: {why}")]
    BadName { name: String, why: &'static str },
    #[error("{0:?} is listed twice, or is both a file and a folder")]
    Duplicate(String),
    #[error("member {0:?} overlaps its neighbour")]
    Overlap(String),
    #[error("bytes that belong to no member follow member {0:?}")]
    Stray(String),
    #[error("the archive starts with data that belongs to no member")]
    LeadingData,
    #[error("member {path:?} is {what}, which no wheel needs")]
    Unsupported { path: String, what: &'static str },
    #[error("member {path:?} takes {bytes} bytes unpacked, {limit} are allowed")]
    MemberTooLarge { path: String, bytes: u64, limit: u64 },
    #[error("all members take more than {limit} bytes unpacked")]
    TotalTooLarge { limit: u64 },
    #[error("member {path:?} claims to unpack to more than its compressed data can hold")]
    ImpossibleRatio { path: String },
    #[error("the local header of member {path:?} contradicts the central directory: {what}")]
    LocalMismatch { path: String, what: &'static str },
    #[error("member {path:?} does not unpack: {what}")]
    Damaged { path: String, what: &'static str },
    #[error("member {path:?} has a wrong checksum")]
    WrongChecksum { path: String },
}

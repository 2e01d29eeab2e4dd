use super::ArchiveError;

const MAX_PATH_BYTES: usize = 4_095;
const MAX_COMPONENT_BYTES: usize = 255;

/// Checks a member's name and gives its path, without the `/` that marks a folder, and whether it had one.
pub(super) fn check(raw: &[u8], utf8: bool) -> Result<(String, bool), ArchiveError> {
    let refuse = |why| ArchiveError::BadName { name: String::from_utf8_lossy(raw).into_owned(), why };
    let name = std::str::from_utf8(raw).map_err(|_| refuse("it is not UTF-8"))?;
    if !utf8 && !name.is_ascii() {
        // Without the flag the name would be CP437, and readers differ.
        return Err(refuse("it is not ASCII and not marked as UTF-8"));
    }
    if name.len() > MAX_PATH_BYTES {
        return Err(refuse("it is too long"));
    }
    if name.starts_with('/') {
        return Err(refuse("it is absolute"));
    }
    if name.contains(['\\', '\0']) || name.chars().any(char::is_control) {
        return Err(refuse("it has a backslash, NUL or control character"));
    }
    let (path, folder) = name.strip_suffix('/').map_or((name, false), |path| (path, true));
    for component in path.split('/') {
        match component {
            "" => return Err(refuse("it has an empty component")),
            "." | ".." => return Err(refuse("it has a `.` or `..` component")),
            long if long.len() > MAX_COMPONENT_BYTES => return Err(refuse("a component is too long")),
            _ => {}
        }
    }
    if path.as_bytes().get(1) == Some(&b':') {
        return Err(refuse("it starts with a drive letter"));
    }
    Ok((path.to_owned(), folder))
}

mod strong;

use std::io::Write;
use std::ops::Range;

use mirror::archive::{Directory, End, Limits, MAX_END_BYTES, Member};
use mirror::{ProjectName, Sha256, WheelName};

use super::window::Window;
use super::{Entry, Reason, Trust, WheelIndex};
use strong::Named;

use crate::dist_info;
use crate::record::{Hash, Hashing, Record, Row};
use crate::remote::{Piece, Remote, RemoteFile};

/// Version of the kept format; another one is read anew from the index.
pub(super) const FORMAT: u32 = 2;
/// First piece read: in 10 of 16 popular wheels end record, central directory and dist-info fit in 64 KiB, in all in this.
const TAIL_BYTES: u64 = 256 * 1024;
/// A file of `.data/scripts` up to this size is looked at for a `#!python` line; larger ones are programs.
const MAX_SCRIPT_BYTES: u64 = 1024 * 1024;
/// All such files of one wheel together: each may unpack to a thousand times what was sent.
const MAX_SCRIPTS_BYTES: u64 = 16 * 1024 * 1024;
/// Largest RECORD, WHEEL or entry_points.txt.
const MAX_INFO_BYTES: u64 = 64 * 1024 * 1024;
/// Names below `.data` an installer knows.
pub(crate) const DATA_KEYS: [&str; 5] = ["purelib", "platlib", "scripts", "headers", "data"];

/// What reading a wheel gave: its index, and the whole file where the server does not do ranges.
pub(super) struct Read {
    pub(super) index: WheelIndex,
    pub(super) whole: Option<Piece>,
}

/// Learns all about a wheel from its last bytes, its central directory and its dist-info, of `whole` where it is here.
pub(super) async fn read(
    remote: &dyn Remote,
    file: &RemoteFile,
    name: &WheelName,
    sha256: Sha256,
    limits: &Limits,
    whole: Option<Piece>,
) -> Result<Read, Reason> {
    let bytes = match file.size {
        Some(bytes) => bytes,
        None => remote.size(file).await?,
    };
    let mut window = Window::new(remote, file, whole);
    let tail = window.bytes(bytes.saturating_sub(TAIL_BYTES.max(MAX_END_BYTES))..bytes).await?;
    let end = End::locate(&tail, bytes)?;
    end.check(limits)?;
    let listing = window.bytes(end.directory.clone()).await?;
    let directory = Directory::parse(&listing, &end, limits)?;
    let dist_info = dist_info_folder(&directory, name)?;
    let info = Info::fetch(&mut window, &directory, &dist_info).await?;
    let mut index = WheelIndex {
        format: FORMAT,
        name: name.clone(),
        sha256,
        bytes,
        scripts: info.scripts,
        problems: info.problems,
        entries: Vec::new(),
        dist_info,
    };
    let members = directory.into_members();
    let named = strong::names(&mut window, &members, &info.record).await?;
    fill(&mut index, members, &info.record, &named);
    relaunch(&mut index, &mut window).await?;
    Ok(Read { index, whole: window.into_whole() })
}

/// The parsed files of the dist-info folder.
struct Info {
    record: Record,
    scripts: Vec<dist_info::Script>,
    problems: Vec<String>,
}

impl Info {
    async fn fetch(window: &mut Window<'_>, directory: &Directory, folder: &str) -> Result<Info, Reason> {
        let find = |name: &str| directory.find(&format!("{folder}/{name}"));
        let record = find("RECORD").ok_or_else(|| Reason::Malformed("it has no RECORD".into()))?;
        let wheel = find("WHEEL").ok_or_else(|| Reason::Malformed("it has no WHEEL file".into()))?;
        let entry_points = find("entry_points.txt");
        let members: Vec<&Member> = [Some(record), Some(wheel), entry_points].into_iter().flatten().collect();
        if let Some(large) = members.iter().find(|member| member.size > MAX_INFO_BYTES) {
            return Err(Reason::Malformed(format!("{} is larger than {MAX_INFO_BYTES} bytes", large.path)));
        }
        window.fetch(members.iter().map(|member| member.extent.clone()).collect()).await?;
        let record = Record::parse(&text(window, record, None).await?)?;
        let mut problems = Vec::new();
        if dist_info::check_wheel(&text(window, wheel, Some(&record)).await?)? {
            problems.push("its Wheel-Version is newer than 1.0".to_owned());
        }
        let scripts = match entry_points {
            Some(member) => dist_info::scripts(&text(window, member, Some(&record)).await?)?,
            None => Vec::new(),
        };
        Ok(Info { record, scripts, problems })
    }
}

/// A member of the dist-info folder as text, held against RECORD once that is known.
async fn text(window: &mut Window<'_>, member: &Member, record: Option<&Record>) -> Result<String, Reason> {
    let bytes = member.unpack(&window.bytes(member.extent.clone()).await?)?;
    if let Some(record) = record {
        let listed = match record.row(&member.path) {
            Some(Row::Listed { hash, .. }) => {
                let mut hashing = Hashing::new(hash);
                hashing.write_all(&bytes).is_ok() && hashing.finish().is_some()
            }
            _ => false,
        };
        if !listed {
            return Err(Reason::Malformed(format!("{} is not the file that RECORD lists", member.path)));
        }
    }
    String::from_utf8(bytes).map_err(|_| Reason::Malformed(format!("{} is not UTF-8", member.path)))
}

/// The one `.dist-info` folder, which must be the wheel's own.
fn dist_info_folder(directory: &Directory, name: &WheelName) -> Result<String, Reason> {
    let mut folders: Vec<&str> = directory
        .members()
        .iter()
        .filter_map(|member| member.path.split('/').next())
        .filter(|first| first.ends_with(".dist-info"))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let [folder] = folders[..] else {
        return Err(Reason::Malformed(format!("it has {} .dist-info folders instead of one", folders.len())));
    };
    let project = folder.split_once('-').and_then(|(project, _)| project.parse::<ProjectName>().ok());
    if project.as_ref() == Some(&name.project) {
        Ok(folder.to_owned())
    } else {
        Err(Reason::Malformed(format!("its {folder} is another project's")))
    }
}

/// Lists the files with what RECORD says of them, and RECORD's rows without a file as problems.
fn fill(index: &mut WheelIndex, members: Vec<Member>, record: &Record, named: &Named) {
    // RECORD cannot list itself or its signatures; INSTALLER is the installer's to write.
    let unsigned =
        ["RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER"].map(|name| format!("{}/{name}", index.dist_info));
    let data = format!("{}/", index.data_folder());
    for member in members.into_iter().filter(|member| !member.folder && !unsigned.contains(&member.path)) {
        let mut trust = trust(&member, record, named);
        if let Some(below) = member.path.strip_prefix(&data) {
            let key = below.split_once('/').map(|(key, _)| key);
            if !key.is_some_and(|key| DATA_KEYS.contains(&key)) {
                trust = Trust::Refused("it lies in a .data folder that no installer knows".into());
            }
        }
        if let Trust::Refused(why) = &trust {
            index.problems.push(format!("{} is refused: {why}", member.path));
        }
        index.entries.push(Entry { member, trust, relaunched: None });
    }
    let known: std::collections::HashSet<&str> =
        index.entries.iter().map(|entry| entry.member.path.as_str()).collect();
    let mut missing: Vec<String> = record
        .paths()
        .filter(|path| {
            !known.contains(path) && !path.ends_with('/') && !unsigned.iter().any(|own| own == path)
        })
        .map(|path| format!("{path} is listed in RECORD and missing"))
        .collect();
    missing.sort_unstable();
    index.problems.append(&mut missing);
}

fn trust(member: &Member, record: &Record, named: &Named) -> Trust {
    match record.row(&member.path) {
        None => Trust::Refused("RECORD does not list it".into()),
        Some(Row::Unusable(why)) => Trust::Refused((*why).into()),
        Some(Row::Listed { size: Some(size), .. }) if *size != member.size => {
            Trust::Refused(format!("RECORD says {size} bytes, the archive {}", member.size))
        }
        Some(Row::Listed { hash: Hash::Sha256(sha256), .. }) => Trust::Sha256(*sha256),
        Some(Row::Listed { .. }) => match named.get(&member.path) {
            Some(Ok(sha256)) => Trust::Sha256(*sha256),
            Some(Err(why)) => Trust::Refused(why.clone()),
            None => Trust::Refused("it was not verified".into()),
        },
    }
}

/// Finds the Python scripts of `.data/scripts` and keeps what they become.
async fn relaunch(index: &mut WheelIndex, window: &mut Window<'_>) -> Result<(), Reason> {
    let folder = format!("{}/scripts/", index.data_folder());
    let is_script =
        |entry: &Entry| entry.member.path.starts_with(&folder) && entry.member.size <= MAX_SCRIPT_BYTES;
    let total: u64 =
        index.entries.iter().filter(|entry| is_script(entry)).map(|entry| entry.member.size).sum();
    if total > MAX_SCRIPTS_BYTES {
        return Err(Reason::Malformed(format!("its scripts take more than {MAX_SCRIPTS_BYTES} bytes")));
    }
    let ranges: Vec<Range<u64>> = index
        .entries
        .iter()
        .filter(|entry| is_script(entry))
        .map(|entry| entry.member.extent.clone())
        .collect();
    window.fetch(ranges).await?;
    for entry in index.entries.iter_mut().filter(|entry| is_script(entry)) {
        let Trust::Sha256(expected) = entry.trust else { continue };
        let bytes = entry.member.unpack(&window.bytes(entry.member.extent.clone()).await?)?;
        if Sha256::of(&bytes) != expected {
            entry.trust = Trust::Refused("its sha256 is not the one RECORD lists".into());
            index
                .problems
                .push(format!("{} is refused: its sha256 is not the one RECORD lists", entry.member.path));
        } else if let Ok(source) = String::from_utf8(bytes) {
            entry.relaunched = dist_info::relaunch(&source);
        }
    }
    Ok(())
}

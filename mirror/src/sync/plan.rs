//! The pure part: facts in, a printable plan out.

use serde::Serialize;

use crate::page::ProjectStatus;
use crate::repository::HeldFile;
use crate::{LockedWheel, ProjectName, RemoteFile};

/// One wheel of the lock, with all that is known about it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the lock says.
    pub wheel: LockedWheel,
    /// What the index says.
    pub offer: Offer,
    /// What is listed as held, and is on the disk.
    pub held: Option<HeldFile>,
    /// The project's status as it was noted here.
    pub held_status: Option<ProjectStatus>,
}

/// What the index says about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Whether the project's page lists it.
    pub listed: bool,
    /// The project's status.
    pub status: ProjectStatus,
    /// Bytes.
    pub size: Option<u64>,
    /// `requires-python`.
    pub requires_python: Option<String>,
    /// Yanked, with the reason.
    pub yanked: Option<String>,
    /// When it was uploaded.
    pub upload_time: Option<String>,
}

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// What the lock says.
    pub wheel: LockedWheel,
    /// What to ask for.
    pub file: RemoteFile,
    /// What the index says.
    pub offer: Offer,
}

/// What a sync will do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Files to fetch.
    pub fetch: Vec<Fetch>,
    /// Files that are held and only described anew: yanked, a new status.
    pub update: Vec<(ProjectName, ProjectStatus, HeldFile)>,
    /// Files that are held as they should be.
    pub keep: Vec<String>,
    /// Files that the index withholds, with their project's status.
    pub refused: Vec<(String, String)>,
    /// Projects of which something is held, although the index withholds it now: it is offered no more.
    pub withdraw: Vec<(ProjectName, ProjectStatus)>,
}

/// A plan as it is printed.
#[derive(Debug, Serialize)]
pub struct PlanSummary {
    /// Files to fetch, with their bytes where known.
    pub fetch: Vec<(String, Option<u64>)>,
    /// Files described anew.
    pub update: Vec<String>,
    /// Files kept.
    pub keep: Vec<String>,
    /// Files that are withheld.
    pub refused: Vec<String>,
    /// Projects that are offered no more.
    pub withdraw: Vec<String>,
}

/// Decides what to do about each wanted wheel.
pub fn plan(wanted: Vec<Wanted>) -> Plan {
    let mut plan = Plan::default();
    for Wanted { wheel, offer, held, held_status } in wanted {
        let filename = wheel.name.file_name().to_owned();
        if offer.status.is_quarantined() {
            plan.refused.push((filename, offer.status.status.clone()));
            if held_status.is_some_and(|noted| noted != offer.status) {
                plan.withdraw.push((wheel.name.project, offer.status));
            }
            continue;
        }
        match held.filter(|held| held.sha256 == wheel.sha256) {
            None => {
                let size = wheel.size.or(offer.size);
                let file = RemoteFile { url: wheel.url.clone(), sha256: Some(wheel.sha256), size };
                plan.fetch.push(Fetch { wheel, file, offer });
            }
            Some(held) => {
                let described = HeldFile {
                    requires_python: offer.requires_python.clone(),
                    yanked: offer.yanked.clone(),
                    upload_time: offer.upload_time.clone().or(held.upload_time.clone()),
                    ..held.clone()
                };
                // A page that does not list the file says nothing about it.
                let same =
                    held_status.as_ref() == Some(&offer.status) && (described == held || !offer.listed);
                if same {
                    plan.keep.push(filename);
                } else {
                    let described = if offer.listed { described } else { held };
                    plan.update.push((wheel.name.project, offer.status, described));
                }
            }
        }
    }
    plan
}

impl Plan {
    /// The plan as it is printed.
    pub fn summary(&self) -> PlanSummary {
        PlanSummary {
            fetch: self.fetch.iter().map(|f| (f.wheel.name.file_name().to_owned(), f.file.size)).collect(),
            update: self.update.iter().map(|(_, _, held)| held.filename.clone()).collect(),
            keep: self.keep.clone(),
            refused: self.refused.iter().map(|(filename, _)| filename.clone()).collect(),
            withdraw: self.withdraw.iter().map(|(project, _)| project.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    fn wanted(held: Option<HeldFile>, offer: Offer) -> Wanted {
        let wheel = LockedWheel {
            name: "six-1.17.0-py3-none-any.whl".parse().unwrap(),
            url: url::Url::parse("http://127.0.0.1/six-1.17.0-py3-none-any.whl").unwrap(),
            sha256: Sha256::of(b"six"),
            size: None,
        };
        Wanted { wheel, offer, held_status: held.as_ref().map(|_| ProjectStatus::default()), held }
    }

    fn held() -> HeldFile {
        HeldFile {
            filename: "six-1.17.0-py3-none-any.whl".to_owned(),
            version: "1.17.0".to_owned(),
            size: 3,
            sha256: Sha256::of(b"six"),
            metadata_sha256: Sha256::of(b""),
            requires_python: None,
            yanked: None,
            upload_time: None,
        }
    }

    fn offer() -> Offer {
        Offer { listed: true, size: Some(3), ..Offer::default() }
    }

    #[test]
    fn what_is_missing_or_differs_is_fetched() {
        let plan = plan(vec![
            wanted(None, offer()),
            wanted(Some(HeldFile { sha256: Sha256::of(b"other"), ..held() }), offer()),
        ]);
        assert_eq!(plan.summary().fetch, vec![("six-1.17.0-py3-none-any.whl".to_owned(), Some(3)); 2]);
    }

    #[test]
    fn what_is_held_is_kept_and_a_yank_is_noted_both_ways() {
        assert_eq!(plan(vec![wanted(Some(held()), offer())]).keep.len(), 1);
        let yanked = Offer { yanked: Some("bad".to_owned()), ..offer() };
        let updated = plan(vec![wanted(Some(held()), yanked)]).update.remove(0).2;
        assert_eq!(updated.yanked.as_deref(), Some("bad"));
        assert_eq!(plan(vec![wanted(Some(updated), offer())]).update.remove(0).2.yanked, None);
        assert_eq!(plan(vec![wanted(Some(held()), Offer::default())]).keep.len(), 1);
    }

    #[test]
    fn what_is_quarantined_is_refused() {
        let status = ProjectStatus { status: "quarantined".to_owned(), reason: None };
        let offer = Offer { status: status.clone(), ..Offer::default() };
        let unheld = plan(vec![wanted(None, offer.clone())]);
        assert_eq!(unheld.refused.len(), 1);
        assert!(unheld.fetch.is_empty() && unheld.withdraw.is_empty());
        let known = wanted(Some(held()), offer.clone());
        assert_eq!(plan(vec![known.clone()]).withdraw, vec![("six".parse().unwrap(), status.clone())]);
        // Another release is held, or the file is gone from the disk.
        assert_eq!(plan(vec![Wanted { held: None, ..known.clone() }]).withdraw.len(), 1);
        let noted = Wanted { held_status: Some(status), ..known };
        assert!(plan(vec![noted.clone()]).withdraw.is_empty());
        let released = Wanted { offer: self::offer(), ..noted };
        assert_eq!(plan(vec![released]).update.len(), 1);
    }
}

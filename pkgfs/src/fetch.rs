//! Fetches members: a range of the wheel → checked against the archive and RECORD → the store.
//!
//! However many readers wait for a member, it is fetched once; small neighbours in the same folder that are not
//! there yet come along in the same request, because a Python import reads them next.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mirror::Sha256;
use mirror::archive::{ArchiveError, UnpackError};
use tokio::sync::{Semaphore, watch};

use crate::remote::{Piece, Remote, RemoteError, RemoteFile};
use crate::store::{FillError, Store, StoreError};
use crate::tree::{Source, Sources};
use crate::wheel::{Arrivals, Entry, Trust, Wheel};

/// Why a member cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{member} of {wheel} cannot be read: {reason}")]
pub(crate) struct FetchError {
    wheel: String,
    member: String,
    pub(crate) reason: FetchReason,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchReason {
    #[error("{0}")]
    Remote(#[from] RemoteError),
    #[error("{0}")]
    Store(#[from] StoreError<ArchiveError>),
    #[error("the index did not answer in {0} ms (pkgfs.read_timeout_ms)")]
    TimedOut(u64),
    #[error("the fetch was given up")]
    GivenUp,
}

/// Longest time one fetch may take: an index that sends a byte now and then must not hold a permit for ever.
pub(crate) const MAX_FLIGHT: Duration = Duration::from_secs(3_600);

/// The memory for pieces is counted in these.
const PAGE_BYTES: u64 = 4096;

/// What became of each member of one fetch.
type Batch = HashMap<Sha256, Result<Arc<File>, Arc<FetchError>>>;
/// A member and the wheel it comes from: where one wheel fails, it must not fail those who ask another.
type FlightKey = (Sha256, Sha256);
type Flight = watch::Receiver<Option<Arc<Batch>>>;

/// Bounds of the fetcher, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    pub(crate) concurrent: usize,
    /// Pieces under way or being unpacked take at most this much together, or one takes more alone.
    pub(crate) memory_bytes: u64,
    pub(crate) timeout: Duration,
    pub(crate) merge_gap_bytes: u64,
    pub(crate) read_ahead_bytes: u64,
}

/// See the module's description.
pub(crate) struct Fetcher {
    remote: Arc<dyn Remote>,
    store: Arc<Store>,
    limits: FetchLimits,
    permits: Semaphore,
    memory: Semaphore,
    flights: Mutex<HashMap<FlightKey, Flight>>,
}

impl Fetcher {
    pub(crate) fn new(remote: Arc<dyn Remote>, store: Arc<Store>, limits: FetchLimits) -> Arc<Fetcher> {
        let permits = Semaphore::new(limits.concurrent.max(1));
        let memory = limits.memory_bytes.div_ceil(PAGE_BYTES).clamp(1, u32::MAX.into());
        let memory = Semaphore::new(usize::try_from(memory).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Fetcher { remote, store, limits, permits, memory, flights: Mutex::default() })
    }

    /// The member's file, if no fetch is needed. Never waits for the network.
    pub(crate) fn at_hand(&self, digest: &Sha256, size: u64) -> Option<Arc<File>> {
        self.store.get(digest, size)
    }

    /// The member's file, fetched if need be from one wheel or another; waits at most the read time-out.
    pub(crate) async fn any(self: &Arc<Self>, sources: &Sources) -> Result<Arc<File>, Arc<FetchError>> {
        let all = sources.all();
        let deadline = Instant::now() + self.limits.timeout;
        let mut failed = None;
        for (tried, source) in all.iter().enumerate() {
            // One that never answers must leave time for the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(all.len() - tried).unwrap_or(u32::MAX);
            match self.file(source, share).await {
                Ok(file) => return Ok(file),
                Err(error) => {
                    sources.put_last(source);
                    failed = Some(error);
                }
            }
        }
        // There is always one to try.
        failed.map_or_else(|| unreachable!("a member of no wheel"), Err)
    }

    /// The member's file, fetched if need be from this wheel; waits at most `patience`.
    async fn file(
        self: &Arc<Self>,
        source: &Source,
        patience: Duration,
    ) -> Result<Arc<File>, Arc<FetchError>> {
        self.recheck(source).await;
        let mut flight = match self.join_or_start(source) {
            Ok(file) => return Ok(file),
            Err(flight) => flight,
        };
        let waited = tokio::time::timeout(patience, flight.wait_for(Option::is_some)).await;
        let reason = match waited {
            Err(_) => FetchReason::TimedOut(self.limits.timeout.as_millis() as u64),
            Ok(Err(_)) => FetchReason::GivenUp,
            Ok(Ok(batch)) => match batch.as_ref().and_then(|batch| batch.get(&source.digest)) {
                Some(outcome) => return outcome.clone(),
                None => FetchReason::GivenUp,
            },
        };
        Err(Arc::new(error_of(&source.wheel, &source.wheel.index.entries[source.member], reason)))
    }

    /// The file, if it arrived meanwhile; else the flight that brings it.
    fn join_or_start(self: &Arc<Self>, source: &Source) -> Result<Arc<File>, Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let wheel = source.wheel.index.sha256;
        if let Some(flight) = flights.get(&(source.digest, wheel)) {
            return Err(flight.clone());
        }
        // A flight ends by keeping its members first and leaving the map after: whoever finds neither starts one.
        if let Some(file) = self.at_hand(&source.digest, source.size) {
            return Ok(file);
        }
        let members = self.plan(source, &flights);
        let (sender, flight) = watch::channel(None);
        let digests: Vec<Sha256> =
            members.iter().filter_map(|member| digest(&source.wheel.index.entries[*member])).collect();
        for digest in &digests {
            flights.insert((*digest, wheel), flight.clone());
        }
        let (fetcher, opened) = (self.clone(), source.wheel.clone());
        tokio::spawn(async move {
            let batch = fetcher.fly(&opened, &members).await;
            sender.send_replace(Some(Arc::new(batch)));
            let mut flights = fetcher.flights.lock().unwrap_or_else(PoisonError::into_inner);
            for digest in &digests {
                flights.remove(&(*digest, wheel));
            }
        });
        Err(flight)
    }

    /// The member, and the neighbours that come along.
    fn plan(&self, source: &Source, flights: &HashMap<FlightKey, Flight>) -> Vec<usize> {
        let entries = &source.wheel.index.entries;
        let folder = |entry: &Entry| entry.member.path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let home = folder(&entries[source.member]);
        let mut range = entries[source.member].member.extent.clone();
        let mut members = vec![source.member];
        let wheel = source.wheel.index.sha256;
        let missing = |digest: Sha256| !flights.contains_key(&(digest, wheel)) && !self.store.has(&digest);
        let wanted = |entry: &Entry| digest(entry).is_some_and(missing) && folder(entry) == home;
        let mut take = |places: &mut dyn Iterator<Item = usize>| {
            for place in places {
                let extent = &entries[place].member.extent;
                let wider = range.start.min(extent.start)..range.end.max(extent.end);
                let gap = (wider.end - wider.start) - (range.end - range.start) - (extent.end - extent.start);
                if gap > self.limits.merge_gap_bytes || wider.end - wider.start > self.limits.read_ahead_bytes
                {
                    break;
                }
                if wanted(&entries[place]) {
                    range = wider;
                    members.push(place);
                }
            }
        };
        take(&mut (source.member + 1..entries.len()));
        take(&mut (0..source.member).rev());
        let mut seen = std::collections::HashSet::new();
        members.retain(|member| digest(&entries[*member]).is_some_and(|digest| seen.insert(digest)));
        members
    }

    /// A file that may have been damaged by a crash of the machine is checked, off this thread.
    async fn recheck(self: &Arc<Self>, source: &Source) {
        if self.store.is_suspect(&source.digest) {
            let (fetcher, digest) = (self.clone(), source.digest);
            let _ = tokio::task::spawn_blocking(move || fetcher.store.recheck(&digest)).await;
        }
    }

    async fn fly(self: &Arc<Self>, wheel: &Arc<Wheel>, members: &[usize]) -> Batch {
        let entries = &wheel.index.entries;
        let extents = members.iter().map(|member| &entries[*member].member.extent);
        let start = extents.clone().map(|extent| extent.start).min().unwrap_or_default();
        let end = extents.map(|extent| extent.end).max().unwrap_or_default();
        // Readers wait for a shorter time, but what they gave up on still arrives for those who come back.
        let deadline = tokio::time::Instant::now() + MAX_FLIGHT;
        // Held until the members are kept.
        let _memory = self.memory.acquire_many(self.pages(end.saturating_sub(start))).await;
        let mut batch = Batch::new();
        for place in wheel.places() {
            let range = self.range(wheel, &place.file, start..end);
            batch = match tokio::time::timeout_at(deadline, range).await {
                Ok(Ok(piece)) => self.take(wheel, members, piece).await,
                Ok(Err(error)) => fail_all(wheel, members, || FetchReason::Remote(error.clone())),
                Err(_) => {
                    return fail_all(wheel, members, || FetchReason::TimedOut(MAX_FLIGHT.as_millis() as u64));
                }
            };
            let wanted = members.first().and_then(|member| digest(&entries[*member]));
            if wanted.is_none_or(|wanted| batch.get(&wanted).is_some_and(Result::is_ok)) {
                break;
            }
        }
        batch
    }

    /// Verifies and keeps what arrived, off this thread.
    async fn take(self: &Arc<Self>, wheel: &Arc<Wheel>, members: &[usize], piece: Piece) -> Batch {
        let (fetcher, wheel_too, wanted) = (self.clone(), wheel.clone(), members.to_vec());
        let kept = tokio::task::spawn_blocking(move || {
            let mut batch = fetcher.keep_all(&wheel_too, &wanted, &piece);
            if let Piece::Whole(_) = piece {
                batch.extend(fetcher.keep_rest(&wheel_too, &wanted, &piece));
            }
            batch
        });
        kept.await.unwrap_or_else(|_| fail_all(wheel, members, || FetchReason::GivenUp))
    }

    /// What a piece of this size takes of the memory for pieces: all of it, where it is larger than that.
    fn pages(&self, bytes: u64) -> u32 {
        let (pages, all) = (bytes.div_ceil(PAGE_BYTES), self.limits.memory_bytes.div_ceil(PAGE_BYTES));
        u32::try_from(pages.min(all).max(1)).unwrap_or(u32::MAX)
    }

    async fn range(&self, wheel: &Wheel, file: &RemoteFile, range: Range<u64>) -> Result<Piece, RemoteError> {
        let _permit =
            self.permits.acquire().await.map_err(|_| RemoteError::Failed("shutting down".into()))?;
        tracing::debug!(
            wheel = wheel.index.name.file_name(),
            start = range.start,
            end = range.end,
            "fetching"
        );
        self.remote.range(file, range).await
    }

    /// Verifies and keeps members, whose extents lie in `piece`.
    fn keep_all(&self, wheel: &Arc<Wheel>, members: &[usize], piece: &Piece) -> Batch {
        let keep = |member: &usize| {
            let entry = &wheel.index.entries[*member];
            let kept = self.keep(entry, piece).map_err(|error| {
                let error = error_of(wheel, entry, error.into());
                tracing::warn!(%error, "member refused or not kept");
                Arc::new(error)
            });
            Some((digest(entry)?, kept))
        };
        members.iter().filter_map(keep).collect()
    }

    /// The members of a whole wheel that nobody asked for yet: it would all have to be sent again for each.
    fn keep_rest(&self, wheel: &Arc<Wheel>, but: &[usize], whole: &Piece) -> Batch {
        let entries = &wheel.index.entries;
        let missing = |member: &usize| {
            !but.contains(member) && digest(&entries[*member]).is_some_and(|digest| !self.store.has(&digest))
        };
        self.keep_all(wheel, &(0..entries.len()).filter(missing).collect::<Vec<_>>(), whole)
    }

    fn keep(&self, entry: &Entry, piece: &Piece) -> Result<Arc<File>, StoreError<ArchiveError>> {
        let Trust::Sha256(expected) = entry.trust else {
            return Err(StoreError::Source(ArchiveError::Truncated("a refused member")));
        };
        let data = piece
            .bytes(&entry.member.extent)
            .ok_or(StoreError::Source(ArchiveError::Truncated("the answer of the index")))?;
        self.store.insert(&expected, entry.member.size, |mut sink| {
            entry.member.unpack_to(&data, &mut sink).map_err(|error| match error {
                UnpackError::Archive(error) => FillError::Source(error),
                UnpackError::Sink(error) => FillError::Disk(error),
            })
        })
    }
}

impl Arrivals for Fetcher {
    fn arrived(&self, wheel: &Arc<Wheel>, whole: &Piece) {
        self.keep_rest(wheel, &[], whole);
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn digest(entry: &Entry) -> Option<Sha256> {
    match entry.trust {
        Trust::Sha256(digest) => Some(digest),
        Trust::Refused(_) => None,
    }
}

fn error_of(wheel: &Wheel, entry: &Entry, reason: FetchReason) -> FetchError {
    FetchError { wheel: wheel.index.name.file_name().to_owned(), member: entry.member.path.clone(), reason }
}

fn fail_all(wheel: &Wheel, members: &[usize], reason: impl Fn() -> FetchReason) -> Batch {
    let fail = |member: &usize| {
        let entry = &wheel.index.entries[*member];
        Some((digest(entry)?, Err(Arc::new(error_of(wheel, entry, reason())))))
    };
    members.iter().filter_map(fail).collect()
}

#[cfg(test)]
mod tests;

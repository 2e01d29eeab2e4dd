use std::ops::Range;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::remote::{Piece, Remote, RemoteError, RemoteFile};

/// The pieces of one remote file that were fetched so far.
pub(super) struct Window<'a> {
    remote: &'a dyn Remote,
    file: &'a RemoteFile,
    pieces: Vec<Piece>,
}

impl<'a> Window<'a> {
    pub(super) fn new(remote: &'a dyn Remote, file: &'a RemoteFile, whole: Option<Piece>) -> Self {
        Window { remote, file, pieces: whole.into_iter().collect() }
    }

    /// The bytes of `range`, fetched if they are not there.
    pub(super) async fn bytes(&mut self, range: Range<u64>) -> Result<Bytes, RemoteError> {
        self.fetch(vec![range.clone()]).await?;
        self.held(&range)
            .ok_or_else(|| RemoteError::Failed(format!("{} is shorter than its index says", self.file.url)))
    }

    /// Fetches what is missing of `ranges`, at once, neighbours in one request.
    pub(super) async fn fetch(&mut self, mut ranges: Vec<Range<u64>>) -> Result<(), RemoteError> {
        ranges.retain(|range| !range.is_empty() && self.held(range).is_none());
        let wanted = merge(ranges, 64 * 1024);
        let (remote, file) = (self.remote, self.file);
        // What lies beyond the end of a whole file is nowhere else either.
        if self.pieces.iter().any(|piece| matches!(piece, Piece::Whole(_))) {
            return Ok(());
        }
        self.pieces.extend(try_join_all(wanted.into_iter().map(|range| remote.range(file, range))).await?);
        Ok(())
    }

    /// The whole file, fetched if it is not here.
    pub(super) async fn whole(&mut self) -> Result<Piece, RemoteError> {
        if let Some(whole) = self.pieces.iter().find(|piece| matches!(piece, Piece::Whole(_))) {
            return Ok(whole.clone());
        }
        let whole = self.remote.whole(self.file).await?;
        self.pieces.push(whole.clone());
        Ok(whole)
    }

    /// The whole file, where the server sent it.
    pub(super) fn into_whole(self) -> Option<Piece> {
        self.pieces.into_iter().find(|piece| matches!(piece, Piece::Whole(_)))
    }

    fn held(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        self.pieces.iter().find_map(|piece| piece.bytes(range))
    }
}

/// Sorted ranges, those with at most `gap` bytes between them made one.
pub(crate) fn merge(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_become_one() {
        assert_eq!(merge(vec![20..30, 0..10, 35..40], 5), [0..10, 20..40]);
        assert_eq!(merge(vec![0..100, 10..20, 200..201], 0), [0..100, 200..201]);
        assert!(merge(vec![], 5).is_empty());
    }
}

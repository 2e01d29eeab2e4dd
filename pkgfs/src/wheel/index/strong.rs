use std::collections::HashMap;

use mirror::Sha256;
use mirror::archive::Member;

use super::{Hash, Hashing, Record, Row};
use crate::remote::Piece;
use crate::wheel::Reason;
use crate::wheel::window::Window;

/// The SHA-256 of each member for which RECORD has a longer hash, or why it is refused.
pub(super) type Named = HashMap<String, Result<Sha256, String>>;

/// Members are named by SHA-256, which RECORD does not tell where it has a longer hash: these are verified at once,
/// for which the whole wheel is fetched. Such wheels are rare.
pub(super) async fn names(
    window: &mut Window<'_>,
    members: &[Member],
    record: &Record,
) -> Result<Named, Reason> {
    let strong: Vec<(Member, Hash)> = members
        .iter()
        .filter_map(|member| match record.row(&member.path)? {
            Row::Listed { hash: Hash::Sha256(_), .. } | Row::Unusable(_) => None,
            Row::Listed { hash, .. } => Some((member.clone(), hash.clone())),
        })
        .collect();
    if strong.is_empty() {
        return Ok(Named::new());
    }
    let whole = window.whole().await?;
    let named = tokio::task::spawn_blocking(move || {
        strong.into_iter().map(|(member, hash)| (member.path.clone(), name(&member, &hash, &whole))).collect()
    });
    named.await.map_err(|_| Reason::GivenUp)
}

fn name(member: &Member, hash: &Hash, whole: &Piece) -> Result<Sha256, String> {
    let bytes = whole.bytes(&member.extent).ok_or("the wheel ends before it")?;
    let mut hashing = Hashing::new(hash);
    member.unpack_to(&bytes, &mut hashing).map_err(|error| error.to_string())?;
    hashing.finish().ok_or_else(|| "its hash is not the one RECORD lists".to_owned())
}

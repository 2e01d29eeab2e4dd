use super::WheelSet;

/// The candidate to fork from for a process that may hold `wanted`: the one with the most wheels among those whose
/// wheels are all in `wanted`. None qualifies by name or version, only by hash: the same version built twice is
/// two packages.
pub fn best_parent<'a, K>(
    candidates: impl IntoIterator<Item = (K, &'a WheelSet)>,
    wanted: &WheelSet,
) -> Option<K> {
    let mut best: Option<(K, usize)> = None;
    for (key, wheels) in candidates {
        if wheels.is_subset(wanted) && best.as_ref().is_none_or(|(_, size)| wheels.len() > *size) {
            best = Some((key, wheels.len()));
        }
    }
    best.map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use mirror::Sha256;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = WheelSet> {
        btree_set((0_u8..8).prop_map(|number| Sha256::of(&[number])), 0..6)
    }

    proptest! {
        #[test]
        fn a_parent_holds_no_wheel_that_is_not_wanted(candidates in vec(sets(), 0..8), wanted in sets()) {
            let best = best_parent(candidates.iter().enumerate(), &wanted);
            match best {
                Some(index) => {
                    prop_assert!(candidates[index].iter().all(|wheel| wanted.contains(wheel)));
                    let larger = candidates.iter().any(|set| set.is_subset(&wanted) && set.len() > candidates[index].len());
                    prop_assert!(!larger, "a better one was passed over");
                }
                None => prop_assert!(candidates.iter().all(|set| !set.is_subset(&wanted))),
            }
        }

        #[test]
        fn the_root_is_always_allowed(mut candidates in vec(sets(), 0..8), wanted in sets()) {
            candidates.push(WheelSet::new());
            prop_assert!(best_parent(candidates.iter().map(|set| ((), set)), &wanted).is_some());
        }

        #[test]
        fn the_own_zygote_beats_all_others(candidates in vec(sets(), 0..8), wanted in sets()) {
            let all: Vec<_> = candidates.iter().chain([&wanted]).collect();
            let best = best_parent(all.iter().map(|set| (*set, *set)), &wanted);
            prop_assert_eq!(best, Some(&wanted));
        }
    }
}

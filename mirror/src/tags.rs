//! Which wheel tags an interpreter takes, best first (PEP 425, 600, 656; order as the `packaging` library gives it).

/// What decides an interpreter's tags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagFacts<'a> {
    /// Major and minor version.
    pub version: (u8, u8),
    /// Built without the GIL (`t` in the ABI tag).
    pub free_threaded: bool,
    /// Built with assertions (`d` in the ABI tag).
    pub debug: bool,
    /// Kernel machine name, such as `x86_64`.
    pub machine: &'a str,
    /// glibc version it runs on.
    pub glibc: Option<(u32, u32)>,
    /// musl version it runs on.
    pub musl: Option<(u32, u32)>,
}

/// The tags as texts such as `cp311-cp311-manylinux_2_28_x86_64`.
pub(crate) fn supported(facts: TagFacts<'_>) -> Vec<String> {
    let (major, minor) = facts.version;
    let own = format!("cp{major}{minor}");
    let platforms = platforms(facts);
    let mut tags = Vec::new();
    let mut native = |python: &str, abi: &str| {
        tags.extend(platforms.iter().map(|platform| format!("{python}-{abi}-{platform}")));
    };
    for abi in abis(&own, facts) {
        native(&own, &abi);
    }
    if !facts.free_threaded {
        native(&own, "abi3");
    }
    native(&own, "none");
    if !facts.free_threaded {
        for older in (2..minor).rev() {
            native(&format!("cp{major}{older}"), "abi3");
        }
    }
    let mut pythons = vec![format!("py{major}{minor}"), format!("py{major}")];
    pythons.extend((0..minor).rev().map(|older| format!("py{major}{older}")));
    for python in &pythons {
        native(python, "none");
    }
    tags.push(format!("{own}-none-any"));
    tags.extend(pythons.iter().map(|python| format!("{python}-none-any")));
    tags
}

fn abis(own: &str, facts: TagFacts<'_>) -> Vec<String> {
    let threading = if facts.free_threaded { "t" } else { "" };
    let mut abis = vec![format!("{own}{threading}")];
    if facts.debug {
        abis.insert(0, format!("{own}{threading}d"));
    }
    abis
}

fn platforms(facts: TagFacts<'_>) -> Vec<String> {
    let machine = facts.machine;
    let mut platforms = Vec::new();
    if let Some((2, minor)) = facts.glibc {
        // The oldest glibc the manylinux policies know: 2.5 on x86_64, 2.17 on the younger architectures.
        let oldest = if machine == "x86_64" { 5 } else { 17 };
        for minor in (oldest..=minor).rev() {
            platforms.push(format!("manylinux_2_{minor}_{machine}"));
            let legacy = match minor {
                17 => "manylinux2014",
                12 => "manylinux2010",
                5 => "manylinux1",
                _ => continue,
            };
            platforms.push(format!("{legacy}_{machine}"));
        }
    }
    if let Some((major, minor)) = facts.musl {
        platforms.extend((0..=minor).rev().map(|minor| format!("musllinux_{major}_{minor}_{machine}")));
    }
    platforms.push(format!("linux_{machine}"));
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TagFacts<'static> {
        TagFacts {
            version: (3, 11),
            free_threaded: false,
            debug: false,
            machine: "x86_64",
            glibc: Some((2, 36)),
            musl: None,
        }
    }

    fn place(tags: &[String], tag: &str) -> usize {
        tags.iter().position(|t| t == tag).unwrap_or_else(|| panic!("{tag} is missing"))
    }

    #[test]
    fn the_order_is_specific_then_abi3_then_pure() {
        let tags = supported(facts());
        let places = [
            "cp311-cp311-manylinux_2_36_x86_64",
            "cp311-cp311-manylinux_2_17_x86_64",
            "cp311-cp311-manylinux2014_x86_64",
            "cp311-cp311-manylinux1_x86_64",
            "cp311-cp311-linux_x86_64",
            "cp311-abi3-manylinux_2_28_x86_64",
            "cp37-abi3-manylinux_2_28_x86_64",
            "py3-none-manylinux_2_17_x86_64",
            "cp311-none-any",
            "py3-none-any",
            "py30-none-any",
        ]
        .map(|tag| place(&tags, tag));
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn what_does_not_run_here_is_left_out() {
        let tags = supported(facts());
        for tag in ["cp311-cp311-manylinux_2_37_x86_64", "cp312-abi3-linux_x86_64", "py2-none-any"] {
            assert!(!tags.iter().any(|t| t == tag), "{tag}");
        }
        let arm = supported(TagFacts { machine: "aarch64", ..facts() });
        assert!(!arm.iter().any(|t| t.contains("manylinux2010")));
        place(&arm, "cp311-cp311-manylinux2014_aarch64");
    }

    #[test]
    fn musl_and_free_threaded_builds_have_their_own() {
        let tags = supported(TagFacts { glibc: None, musl: Some((1, 2)), ..facts() });
        place(&tags, "cp311-cp311-musllinux_1_1_x86_64");
        assert!(!tags.iter().any(|t| t.contains("manylinux")));
        let tags = supported(TagFacts { version: (3, 13), free_threaded: true, ..facts() });
        place(&tags, "cp313-cp313t-linux_x86_64");
        assert!(!tags.iter().any(|t| t.contains("abi3")));
    }
}

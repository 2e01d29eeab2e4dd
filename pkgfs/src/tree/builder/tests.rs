use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn paths(folder: &Folder, prefix: &str, found: &mut BTreeMap<String, u64>) {
    for (name, node) in folder.entries() {
        let path = format!("{prefix}{name}");
        match node {
            Node::Folder(below) => {
                assert_eq!(below.parent, folder.ino);
                paths(below, &format!("{path}/"), found);
            }
            Node::File(file) => {
                found.insert(path, file.ino);
            }
            Node::Link(_) => {}
        }
    }
}

fn find<'a>(root: &'a Arc<Folder>, path: &str) -> Option<&'a Node> {
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let node = root.get(first)?;
    match (rest, node) {
        (None, node) => Some(node),
        (Some(rest), Node::Folder(folder)) => find(folder, rest),
        _ => None,
    }
}

#[test]
fn later_files_replace_earlier_ones_and_folders_stay() {
    let mut builder = TreeBuilder::default();
    assert_eq!(builder.insert("a/b", Draft::text("1", false)), None);
    assert_eq!(builder.insert("a/b", Draft::text("1", false)), None);
    assert_eq!(builder.insert("a/b", Draft::text("2", false)), Some(Clash::Replaced));
    assert_eq!(builder.insert("a", Draft::text("3", false)), Some(Clash::Kept));
    assert_eq!(builder.insert("a/b/c", Draft::text("3", false)), Some(Clash::Kept));
    let inodes = Inodes::default();
    let tree = builder.build(&inodes, &Sha256::of(b"t"), 1);
    let Some(Node::File(file)) = find(&tree, "a/b") else { panic!() };
    assert!(matches!(&file.content, Content::Bytes(bytes) if **bytes == *b"2"));
}

#[test]
fn the_same_file_is_one_inode_in_all_trees_and_folders_are_not() {
    let inodes = Inodes::default();
    let tree = |name: &[u8]| {
        let mut builder = TreeBuilder::default();
        builder.insert("p/m.py", Draft::text("same", false));
        builder.insert("p/x.py", Draft::text("same", true));
        builder.build(&inodes, &Sha256::of(name), 1)
    };
    let (one, two) = (tree(b"1"), tree(b"2"));
    let ino = |tree, path| find(tree, path).unwrap().ino();
    assert_eq!(ino(&one, "p/m.py"), ino(&two, "p/m.py"));
    assert_ne!(ino(&one, "p/m.py"), ino(&one, "p/x.py"));
    assert_ne!(ino(&one, "p"), ino(&two, "p"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a plain map from path to content.
    #[test]
    fn a_tree_holds_what_a_map_of_paths_holds(
        files in prop::collection::vec(("[ab]{1,2}(/[ab]{1,2}){0,3}", 0u8..4), 0..30),
    ) {
        let mut builder = TreeBuilder::default();
        let mut model: BTreeMap<String, u8> = BTreeMap::new();
        for (path, content) in &files {
            let clash = builder.insert(path, Draft::text(content.to_string(), false));
            let below_file = path.match_indices('/').any(|(at, _)| model.contains_key(&path[..at]));
            let is_folder = model.keys().any(|known| known.starts_with(&format!("{path}/")));
            let expected = match model.get(path) {
                _ if below_file || is_folder => Some(Clash::Kept),
                Some(known) if known != content => Some(Clash::Replaced),
                _ => None,
            };
            prop_assert_eq!(clash, expected, "{}", path);
            if expected != Some(Clash::Kept) {
                model.insert(path.clone(), *content);
            }
        }
        let inodes = Inodes::default();
        let tree = builder.build(&inodes, &Sha256::of(b"t"), 1);
        let mut found = BTreeMap::new();
        paths(&tree, "", &mut found);
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
        for (path, ino) in found {
            let Some(Node::File(file)) = inodes.get(ino) else { panic!() };
            prop_assert!(matches!(&file.content, Content::Bytes(bytes) if **bytes == *model[&path].to_string().as_bytes()));
        }
    }
}

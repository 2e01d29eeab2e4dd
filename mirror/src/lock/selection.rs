use std::collections::BTreeSet;

/// Markers that always and never hold; PEP 508 has no constants.
const ALWAYS: &str = "python_version >= '0'";
const NEVER: &str = "python_version < '0'";

/// A marker of a lock in terms of PEP 508: `'x' in extras` and `'x' in dependency_groups` (PEP 751) are decided, as an
/// installer does that was asked for nothing special: no extras, and the lock's default groups.
pub(super) fn decided(marker: &str, default_groups: &BTreeSet<String>) -> String {
    let words = words(marker);
    let mut text = String::with_capacity(marker.len());
    let mut rest = words.as_slice();
    while let [first, after @ ..] = rest {
        let (negated, set, left) = match after {
            ["in", set, left @ ..] => (false, *set, left),
            ["not", "in", set, left @ ..] => (true, *set, left),
            _ => (false, "", after),
        };
        let among = match (quoted(first), set) {
            (Some(_), "extras") => Some(false),
            (Some(name), "dependency_groups") => Some(default_groups.contains(&normalised(name))),
            _ => None,
        };
        text.push(' ');
        if let Some(among) = among {
            text.push_str(if among == negated { NEVER } else { ALWAYS });
            rest = left;
        } else {
            text.push_str(first);
            rest = after;
        }
    }
    text.trim_start().to_owned()
}

/// Names of groups are compared as names of projects are.
pub(super) fn normalised(name: &str) -> String {
    name.parse::<crate::ProjectName>().map_or_else(|_| name.to_owned(), |name| name.to_string())
}

fn quoted(word: &str) -> Option<&str> {
    let inner = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).filter(|_| word.len() > 1)
}

/// Strings with their quotes, parentheses, and what else stands between blanks.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' | '"' => rest[1..].find(first).map(|at| at + 2),
            '(' | ')' => Some(1),
            _ => rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '(' | ')')),
        };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_and_groups_are_decided_and_the_rest_stays() {
        let groups = BTreeSet::from(["dev-tools".to_owned()]);
        let cases = [
            ("'cli' in extras", NEVER.to_owned()),
            ("\"cli\" not in extras", ALWAYS.to_owned()),
            ("'Dev_Tools' in dependency_groups", ALWAYS.to_owned()),
            ("'Dev_Tools' not  in dependency_groups", NEVER.to_owned()),
            ("'docs' in dependency_groups", NEVER.to_owned()),
            (
                "('docs'in dependency_groups) or sys_platform=='linux'",
                format!("( {NEVER} ) or sys_platform== 'linux'"),
            ),
            ("'linux' in sys_platform", "'linux' in sys_platform".to_owned()),
            ("os_name == 'x in extras", "os_name == 'x in extras".to_owned()),
            ("", String::new()),
        ];
        for (marker, wanted) in cases {
            assert_eq!(decided(marker, &groups), wanted, "{marker}");
        }
    }
}

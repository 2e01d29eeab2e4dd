//! What uv's failures mean. Its messages changed between versions; what is looked for here did not (0.9 to 0.13).

use super::ResolveError;
use crate::{Index, index_url};

/// Longest reason that is passed on, in characters.
const MAX_REASON: usize = 2_000;

/// Sorts a failure by what uv said on standard error.
pub(super) fn classify(said: &str, code: Option<i32>, index: &Index) -> ResolveError {
    let reason = reason(said);
    let shown_index = || index_url::without_secrets(index.url.as_str());
    let has = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    if let Some(project) = unknown_project(&reason) {
        return ResolveError::UnknownProject { project, index: shown_index() };
    }
    if has(&["Because ", "No solution found", "requirements are unsatisfiable"]) {
        return ResolveError::Unsolvable { reason };
    }
    if has(&["Couldn't parse requirement", "Failed to parse", "File not found", "failed to read from file"]) {
        return ResolveError::Unreadable { reason };
    }
    if has(&[
        "Failed to fetch",
        "error sending request",
        "Request failed",
        "HTTP status",
        "Failed to download",
    ]) {
        return ResolveError::Upstream { index: shown_index(), reason };
    }
    let code = code.map_or("killed by a signal".to_owned(), |code| format!("exit code {code}"));
    ResolveError::Other { reason: if reason.is_empty() { code } else { reason } }
}

/// "… Because <project> was not found in the package registry and …"
fn unknown_project(reason: &str) -> Option<String> {
    let before =
        reason.split(" was not found in the package registry").next().filter(|b| b.len() < reason.len())?;
    Some(before.rsplit(' ').next()?.to_owned())
}

/// uv's message as one line: its marks, headings and wrapping taken off, its hints kept.
fn reason(said: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for line in said.lines() {
        let line = line.trim().trim_start_matches(['×', '╰', '├', '─', '▶', '│', '╭', ' ']);
        let line = line.strip_prefix("error: ").or_else(|| line.strip_prefix("cause: ")).unwrap_or(line);
        if line.starts_with("No solution found when resolving") {
            continue;
        }
        if line.starts_with("Failed to fetch") || line.starts_with("Because") {
            // What stands before only repeats the outer layers.
            words.clear();
        }
        words.extend(line.split_whitespace());
    }
    let text = words.join(" ");
    let short: String = text.chars().take(MAX_REASON).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(said: &str) -> String {
        let index =
            Index { url: url::Url::parse("http://u:p@127.0.0.1/simple").unwrap(), certificates: None };
        classify(said, Some(2), &index).to_string()
    }

    #[test]
    fn an_unknown_project_is_named_whatever_the_version() {
        let wanted = "project nosuch is not on the index http://127.0.0.1/simple; check the spelling, or name another \
                      index with --index-url";
        let new = "error: No solution found when resolving dependencies\n  cause: Because nosuch was not found in the \
                   package registry and you require nosuch, we can conclude that your requirements are unsatisfiable.\n";
        let old = "  × No solution found when resolving dependencies:\n  ╰─▶ Because nosuch was not found in the \
                   package registry\n      and you require nosuch, we can conclude that your\n      requirements are \
                   unsatisfiable.\n";
        assert_eq!(classified(new), wanted);
        assert_eq!(classified(old), wanted);
    }

    #[test]
    fn a_conflict_keeps_the_reason_and_the_hint() {
        let said = "error: No solution found when resolving dependencies\n  cause: Because all versions of docopt have \
                    no usable wheels and you require docopt, we can conclude that your requirements are unsatisfiable.\n\n\
                    hint: Wheels are required for `docopt` because building from source is disabled for all packages\n";
        assert_eq!(
            classified(said),
            "the requirements cannot be satisfied together: Because all versions of docopt have no usable wheels and you \
             require docopt, we can conclude that your requirements are unsatisfiable. hint: Wheels are required for \
             `docopt` because building from source is disabled for all packages"
        );
    }

    #[test]
    fn an_index_that_is_down_is_not_the_users_fault() {
        let said = "error: Request failed after 3 retries in 7.5s\n  cause: Failed to fetch: http://127.0.0.1/simple/six/\n  \
                    cause: error sending request for url (http://127.0.0.1/simple/six/)\n  cause: client error (Connect)\n  \
                    cause: tcp connect error\n  cause: Connection refused (os error 111)\n";
        assert_eq!(
            classified(said),
            "the index http://127.0.0.1/simple cannot be used: Failed to fetch: http://127.0.0.1/simple/six/ error \
             sending request for url (http://127.0.0.1/simple/six/) client error (Connect) tcp connect error Connection \
             refused (os error 111); check the network, or name another index with --index-url"
        );
    }

    #[test]
    fn the_rest_is_passed_on() {
        assert_eq!(classified("error: something new\n"), "uv failed: something new");
        assert_eq!(classified(""), "uv failed: exit code 2");
        assert!(
            classified("error: Couldn't parse requirement in `-` at position 0")
                .starts_with("the requirements cannot")
        );
    }
}

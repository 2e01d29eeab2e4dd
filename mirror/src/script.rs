use pep440_rs::VersionSpecifiers;
use serde::Deserialize;

/// Largest script that is read for its header, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// What a script says about itself (PEP 723, inline script metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptMetadata {
    /// Which Pythons it runs on.
    pub requires_python: Option<VersionSpecifiers>,
    /// What it needs: dependency specifiers (PEP 508), as they stand there.
    pub dependencies: Vec<String>,
}

/// Why a script's header cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// More than one block.
    #[error("the script has two `script` metadata blocks, at lines {first} and {second}; keep one (PEP 723)")]
    Twice {
        /// Line of the first.
        first: usize,
        /// Line of the second.
        second: usize,
    },
    /// The block is not TOML, or has a key of a wrong type.
    #[error("the script's metadata block is malformed at line {line}: {reason}")]
    Malformed {
        /// Line in the script, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Larger than any script.
    #[error("the script is over {MAX_BYTES} bytes")]
    TooLarge,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Header {
    requires_python: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl ScriptMetadata {
    /// Reads the header of `source`; `None` where it has none. A block that is never closed is none.
    ///
    /// # Errors
    /// Two blocks, or one that is malformed.
    pub fn parse(source: &str) -> Result<Option<ScriptMetadata>, ScriptError> {
        if source.len() > MAX_BYTES {
            return Err(ScriptError::TooLarge);
        }
        let lines: Vec<&str> = source.lines().collect();
        let blocks = blocks(&lines);
        let mut ours = blocks.iter().filter(|block| block.kind == "script");
        let Some(block) = ours.next() else { return Ok(None) };
        if let Some(second) = ours.next() {
            return Err(ScriptError::Twice { first: block.line, second: second.line });
        }
        let malformed =
            |line: usize, reason: String| ScriptError::Malformed { line: block.line + line, reason };
        let header: Header = toml::from_str(&block.content).map_err(|error| {
            let before = error.span().and_then(|span| block.content.get(..span.start)).unwrap_or_default();
            malformed(before.matches('\n').count() + 1, error.message().to_owned())
        })?;
        let line_of =
            |text: &str| block.content.lines().position(|line| line.contains(text)).map_or(0, |at| at + 1);
        let requires_python = header.requires_python.map(|text| {
            text.parse()
                .map_err(|error| malformed(line_of("requires-python"), format!("requires-python: {error}")))
        });
        Ok(Some(ScriptMetadata {
            requires_python: requires_python.transpose()?,
            dependencies: header.dependencies,
        }))
    }
}

struct Block<'a> {
    kind: &'a str,
    /// Of its `# /// kind`, counted from 1.
    line: usize,
    content: String,
}

/// All closed blocks. A block ends at the last `# ///` of the run of comment lines that follows its opening.
fn blocks<'a>(lines: &[&'a str]) -> Vec<Block<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(kind) = opening(lines[at]) else {
            at += 1;
            continue;
        };
        let comments =
            lines[at + 1..].iter().take_while(|line| line.starts_with("# ") || **line == "#").count();
        let run = &lines[at + 1..at + 1 + comments];
        let Some(close) = run.iter().rposition(|line| *line == "# ///") else {
            at += 1;
            continue;
        };
        let content = run[..close].iter().map(|line| line.get(2..).unwrap_or_default()).fold(
            String::new(),
            |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            },
        );
        found.push(Block { kind, line: at + 1, content });
        at += close + 2;
    }
    found
}

fn opening(line: &str) -> Option<&str> {
    let kind = line.strip_prefix("# /// ")?;
    let named = !kind.is_empty() && kind.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    named.then_some(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dependencies(source: &str) -> Vec<String> {
        ScriptMetadata::parse(source).unwrap().unwrap().dependencies
    }

    #[test]
    fn a_header_is_read_with_any_line_ends() {
        let source = "#!/usr/bin/env python\n# /// script\n# requires-python = \">=3.9\"\n# dependencies = [\n#   \"numpy\",\n#\n#   \"pandas<3\",\n# ]\n# ///\nimport numpy\n";
        for source in [source.to_owned(), source.replace('\n', "\r\n")] {
            let header = ScriptMetadata::parse(&source).unwrap().unwrap();
            assert_eq!(header.dependencies, ["numpy", "pandas<3"]);
            assert_eq!(header.requires_python.unwrap().to_string(), ">=3.9");
        }
    }

    #[test]
    fn none_and_unclosed_and_other_blocks_are_no_header() {
        for source in
            ["", "import os\n", "# /// script\n# dependencies = [\"a\"]\n", "# /// other\n# x\n# ///\n"]
        {
            assert_eq!(ScriptMetadata::parse(source), Ok(None), "{source}");
        }
        assert_eq!(
            dependencies("# /// other\n# x = 1\n# ///\n\n# /// script\n# dependencies = [\"a\"]\n# ///\n"),
            ["a"]
        );
    }

    #[test]
    fn two_headers_are_an_error_with_both_lines() {
        let one = "# /// script\n# dependencies = []\n# ///\n";
        let error = ScriptMetadata::parse(&format!("{one}\n{one}")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the script has two `script` metadata blocks, at lines 1 and 5; keep one (PEP 723)"
        );
    }

    #[test]
    fn malformed_headers_name_the_line_of_the_script() {
        let error = |source: &str| ScriptMetadata::parse(source).unwrap_err().to_string();
        let text = error("import os\n# /// script\n# dependencies = [\"a\"]\n# oops\n# ///\n");
        assert!(text.starts_with("the script's metadata block is malformed at line 4: "), "{text}");
        let text = error("# /// script\n# dependencies = \"numpy\"\n# ///\n");
        assert!(
            text.starts_with("the script's metadata block is malformed at line 2: invalid type"),
            "{text}"
        );
        let text = error("# /// script\n# requires-python = \"three\"\n# ///\n");
        assert!(
            text.starts_with("the script's metadata block is malformed at line 2: requires-python"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_source_is_read_or_refused(source in "(# /// ?[a-z]{0,6}\n|# ///\n|#\n|# [a-z=\"]{0,8}\r?\n|x\n){0,20}") {
            let _ = ScriptMetadata::parse(&source);
        }
    }
}

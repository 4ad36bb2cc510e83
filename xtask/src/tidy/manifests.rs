//! Dependencies say why they are there.

use super::finding::Finding;

/// Everybody who reads Rust knows what these are for.
const OBVIOUS: &[&str] =
    &["hex", "libc", "serde", "serde_json", "tempfile", "thiserror", "tracing", "tracing-subscriber"];
/// Banned by name, with the reason.
const BANNED: &[(&str, &str)] =
    &[("bincode", "it is abandoned (RUSTSEC-2025-0141); stored and sent bytes use postcard")];

/// Lines of one manifest's dependency tables.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_in_dependencies = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_in_dependencies = line.trim_matches(['[', ']']).ends_with("dependencies");
            continue;
        }
        let Some((name, rest)) =
            line.split_once('=').filter(|_| is_in_dependencies && !line.starts_with('#'))
        else {
            continue;
        };
        let name = name.trim();
        let name = name.strip_suffix(".workspace").unwrap_or(name);
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            findings.push(Finding::new(path, index + 1, format!("`{name}` is banned"), *why, "remove it"));
        }
        if !is_argued(line, name, rest) {
            findings.push(Finding::new(
                path,
                index + 1,
                format!("`{name}` does not say why it is there"),
                "every dependency is code that we answer for",
                "add a comment at the end of the line",
            ));
        }
    }
    findings
}

/// Ours and those that the workspace argues need nothing here.
fn is_argued(line: &str, name: &str, rest: &str) -> bool {
    let is_elsewhere = line.contains("workspace = true") || rest.contains("path = ");
    is_elsewhere || line.contains('#') || OBVIOUS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_argued() {
        let cases = [
            ("[dependencies]\nserde.workspace = true", 0),
            ("[dependencies]\nring = \"0.17\"", 1),
            ("[dependencies]\nring = \"0.17\" # signatures", 0),
            ("[workspace.dependencies]\nring = \"0.17\"", 1),
            ("[dev-dependencies]\nours = { path = \"../ours\" }", 0),
            ("[workspace.dependencies]\nserde = \"1\"", 0),
            ("[package]\nname = \"a\"", 0),
            ("[features]\ndebug = [\"dep:a\"]", 0),
            ("[dependencies]\nbincode = \"2\" # fast", 1),
            ("[dependencies]\nbincode.workspace = true", 1),
            ("[dependencies]\n# bincode = \"2\"", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(check("Cargo.toml", text).len(), expect, "{text}");
        }
    }
}

//! Crates of ours that stand in for foreign ones, as long as somebody asks for those.

use super::{TextFile, finding::Finding};

/// A crate in `third-party/`.
struct StandIn {
    name: &'static str,
    /// Who asks for it.
    dependent: &'static str,
}

const STAND_INS: [StandIn; 1] = [StandIn { name: "insta", dependent: "brush-parser" }];

/// What stands in for something that nobody asks for any more.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let Some(lock) = files.iter().find(|file| file.path == "Cargo.lock") else { return Vec::new() };
    let is_needed = |stand_in: &StandIn| depends(&lock.text, stand_in.dependent, stand_in.name);
    let stand_ins = STAND_INS.iter().filter(|stand_in| !is_needed(stand_in));
    let of = |stand_in: &StandIn| {
        let path = format!("third-party/{}/Cargo.toml", stand_in.name);
        files.iter().any(|file| file.path == path).then(|| {
            Finding::new(
                &path,
                1,
                format!("`{}` no longer depends on `{}`", stand_in.dependent, stand_in.name),
                "nothing is left for it to stand in for",
                "remove the directory and its lines under `[patch.crates-io]`",
            )
        })
    };
    stand_ins.filter_map(of).collect()
}

/// Whether a package is in a lock file with another one among its dependencies.
fn depends(lock: &str, package: &str, dependency: &str) -> bool {
    let name = format!("name = \"{package}\"");
    lock.split("[[package]]").filter(|entry| entry.lines().any(|line| line == name)).any(|entry| {
        let (_, dependencies) = entry.split_once("dependencies = [").unwrap_or_default();
        let words = dependencies.lines().map_while(|line| (line != "]").then_some(line.trim()));
        // `"name"`, or `"name version"` where there are several.
        words
            .filter_map(|line| line.strip_prefix('"')?.split(['"', ' ']).next())
            .any(|word| word == dependency)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_in_for_nothing_is_found() {
        let check = |lock: &str, expect: usize| {
            let file = |path: &str, text: &str| TextFile { path: path.into(), text: text.into() };
            let files = [file("Cargo.lock", lock), file("third-party/insta/Cargo.toml", "")];
            assert_eq!(check(&files).len(), expect, "{lock}");
        };
        let package = |name: &str, dependencies: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"1\"\ndependencies = [\n{dependencies}]\n")
        };
        check(&package("brush-parser", " \"bon\",\n \"insta\",\n \"peg\",\n"), 0);
        check(&package("brush-parser", " \"insta 1.2.3\",\n"), 0);
        check(&package("brush-parser", " \"bon\",\n"), 1);
        check(&package("brush-parser", " \"insta-x\",\n"), 1);
        let other = package("other", " \"insta\",\n");
        check(&(package("brush-parser", "") + &other), 1);
        check(&(other + "[[package]]\nname = \"brush-parser\"\nversion = \"1\"\n"), 1);
    }
}

//! Policies that are shipped have tests beside them.

use std::collections::BTreeSet;

use super::{TextFile, finding::Finding};

/// Where they are, and what their names end with.
const FOLDER: &str = "policies/";
const POLICY: &str = ".yaml";
const TESTS: &str = ".test.yaml";

/// Every policy without tests, and every file of tests without the policy that it is named after.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let names = files.iter().filter_map(|file| file.path.strip_prefix(FOLDER));
    // What is in a folder of its own is a part that policies include.
    let names: BTreeSet<&str> = names.filter(|name| !name.contains('/')).collect();
    let lonely = names.iter().filter_map(|name| {
        let (other, what, why) = match (name.strip_suffix(TESTS), name.strip_suffix(POLICY)) {
            (Some(stem), _) => (format!("{stem}{POLICY}"), "has no policy", "nobody knows what it tests"),
            (None, Some(stem)) => {
                (format!("{stem}{TESTS}"), "has no tests", "what is shipped is shown to decide what it says")
            }
            (None, None) => return None,
        };
        let path = format!("{FOLDER}{name}");
        let missing = format!("`{FOLDER}{other}` is missing: the file {what}");
        (!names.contains(&*other)).then(|| Finding::new(&path, 1, missing, why, "add it, or remove this one"))
    });
    lonely.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_tests_come_in_pairs() {
        let check_in = |paths: &[&str], expect: &[&str]| {
            let file = |path: &&str| TextFile { path: (*path).to_owned(), text: String::new() };
            let found = check(&paths.iter().map(file).collect::<Vec<_>>());
            assert_eq!(found.len(), expect.len(), "{paths:?}: {found:?}");
            for (finding, words) in found.iter().zip(expect) {
                assert!(finding.to_string().contains(words), "{finding}");
            }
        };
        check_in(&["policies/a.yaml", "policies/a.test.yaml", "policies/README.md"], &[]);
        check_in(&["policies/a.yaml"], &["`policies/a.test.yaml` is missing: the file has no tests"]);
        check_in(&["policies/a.test.yaml"], &["`policies/a.yaml` is missing: the file has no policy"]);
        check_in(&["policies/common/part.yaml"], &[]);
        check_in(&["docs/a.yaml", ".github/workflows/ci.yaml"], &[]);
    }
}

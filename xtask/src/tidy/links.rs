//! Links of documents to other files of the project, and to headings in them.

use std::collections::{BTreeMap, BTreeSet};

use super::{TextFile, finding::Finding};

/// Every link that leads nowhere. Only what git knows or would take is somewhere.
pub(super) fn check(files: &[TextFile]) -> Vec<Finding> {
    let documents: BTreeMap<&str, &str> =
        files.iter().filter(|file| is_document(&file.path)).map(|file| (&*file.path, &*file.text)).collect();
    let mut places: BTreeSet<&str> = files.iter().map(|file| &*file.path).collect();
    for file in files {
        places.extend(file.path.match_indices('/').map(|(at, _)| &file.path[..at]));
    }
    let mut findings = Vec::new();
    for (path, text) in &documents {
        for (line, words) in prose(text) {
            let dead = links(&words).into_iter().filter_map(|target| dead(path, target, &places, &documents));
            findings.extend(dead.map(|what| {
                Finding::new(
                    path,
                    line,
                    what,
                    "a reader is sent nowhere",
                    "correct the link, or add what it leads to",
                )
            }));
        }
    }
    findings
}

fn is_document(path: &str) -> bool {
    path.ends_with(".md")
}

/// What is wrong with a link, if anything. Links to the web are not looked at: checks need no network.
fn dead(
    from: &str,
    target: &str,
    places: &BTreeSet<&str>,
    documents: &BTreeMap<&str, &str>,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, name)| (file, Some(name)));
    let place = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(place) = place.filter(|place| place.is_empty() || places.contains(&**place)) else {
        return Some(format!("there is no `{file}`"));
    };
    let heading = heading?;
    let found = documents.get(&*place).is_some_and(|text| anchors(text).contains(heading));
    (!found).then(|| format!("`{place}` has no heading `#{heading}`"))
}

/// The path from the root of the checkout; none for one that leaves it.
fn resolve(from: &str, file: &str) -> Option<String> {
    let mut names: Vec<&str> = from.split('/').collect();
    names.pop();
    for name in file.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// Numbered lines outside of fenced blocks, without what stands between backticks.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut is_fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            lines.push((index + 1, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

/// The targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.trim()).collect()
}

/// Names of headings as forges make them: lower case, spaces as `-`, nothing else but letters, digits, `-` and `_`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if let (false, Some((marks, title))) = (is_fenced, line.split_once(' '))
            && !marks.is_empty()
            && marks.bytes().all(|byte| byte == b'#')
        {
            let kept = title.trim().chars().filter_map(|character| match character {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            found.insert(kept.flat_map(char::to_lowercase).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_somewhere() {
        let check_in = |path: &str, text: &str, expect: usize| {
            let other = "# A title, with `code`\n\n```sh\n# not a heading\n```\n";
            let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
            let files = [file(path, text), file("docs/b.md", other), file("src/c.rs", "[x](gone.md)")];
            let findings = check(&files);
            assert_eq!(findings.len(), expect, "{text}: {findings:?}");
        };
        for (text, expect) in [
            ("[b](docs/b.md)", 0),
            ("[b](docs/) and [b](./docs/b.md)", 0),
            ("[c](src/c.rs), [gone](src/d.rs)", 1),
            ("[b](docs/b.md#a-title-with-code)", 0),
            ("[b](docs/b.md#not-a-heading)", 1),
            ("[c](src/c.rs#c)", 1),
            ("# Here\n[up](#here) [up](#there)", 1),
            ("[web](https://example.org/gone.md) [mail](mailto:a@example.org)", 0),
            ("`[x](gone.md)` and\n```\n[x](gone.md)\n```", 0),
            ("[out](../README.md)", 1),
        ] {
            check_in("README.md", text, expect);
        }
        check_in("docs/a.md", "[b](b.md) [c](../src/c.rs) [d](docs/b.md)", 1);
    }
}

//! "Did you mean": the nearest known word.

/// The candidate that a few typing mistakes away from `word`, if one is near enough to be meant.
#[must_use]
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long scalar is no typing mistake, and the distance costs its length times the candidate's.
    if word.len() > 64 {
        return None;
    }
    let near = |candidate: &&str| 1 + candidate.chars().count() / 3;
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` or `c`: for messages.
#[must_use]
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

/// Insertions, deletions and replacements between two words, case ignored.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, l) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word() {
        let words = ["paths", "operations", "except"];
        let check = |word: &str, expect: Option<&str>| assert_eq!(nearest(word, words), expect, "{word}");
        check("path", Some("paths"));
        check("pahts", Some("paths"));
        check("Operation", Some("operations"));
        check("exceptions", None);
        check("exept", Some("except"));
        check("colour", None);
        check(&"x".repeat(1 << 20), None);
    }

    #[test]
    fn list_of_words() {
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}

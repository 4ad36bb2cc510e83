//! `curl`: files that its options and its URLs name.

use crate::{operands::part, word::Word};

/// What the value of an option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// A text, or behind an `@` the file that has it.
    Text,
    /// The same, or `name@FILE`.
    NamedText,
    /// `name=@FILE` or `name=<FILE`.
    Form,
    /// Cookies, or a file with some.
    Cookies,
    /// A file that is read, and a pattern of curl's own for several.
    Uploaded,
    /// A file that is read.
    Read,
    /// The same, with a password behind a `:`.
    Certificate,
    /// A file that is written.
    Written,
    /// A directory that files are written in.
    WrittenIn,
}

/// Options that name files, by their letter, if they have one, and their long form. `-o` is looked for elsewhere.
const OPTIONS: [(&str, &str, Value); 36] = [
    ("d", "data", Value::Text),
    ("", "data-ascii", Value::Text),
    ("", "data-binary", Value::Text),
    ("", "data-urlencode", Value::NamedText),
    ("", "url-query", Value::NamedText),
    ("", "variable", Value::NamedText),
    ("", "json", Value::Text),
    ("H", "header", Value::Text),
    ("", "proxy-header", Value::Text),
    ("w", "write-out", Value::Text),
    ("F", "form", Value::Form),
    ("b", "cookie", Value::Cookies),
    ("T", "upload-file", Value::Uploaded),
    ("K", "config", Value::Read),
    ("E", "cert", Value::Certificate),
    ("", "proxy-cert", Value::Certificate),
    ("", "key", Value::Read),
    ("", "proxy-key", Value::Read),
    ("", "pubkey", Value::Read),
    ("", "cacert", Value::Read),
    ("", "proxy-cacert", Value::Read),
    ("", "capath", Value::Read),
    ("", "crlfile", Value::Read),
    ("", "netrc-file", Value::Read),
    ("", "etag-compare", Value::Read),
    ("", "egd-file", Value::Read),
    ("", "random-file", Value::Read),
    ("c", "cookie-jar", Value::Written),
    ("D", "dump-header", Value::Written),
    ("", "trace", Value::Written),
    ("", "trace-ascii", Value::Written),
    ("", "stderr", Value::Written),
    ("", "etag-save", Value::Written),
    ("", "hsts", Value::Written),
    ("", "alt-svc", Value::Written),
    ("", "output-dir", Value::WrittenIn),
];

/// What is read, and what is written; `valued` are the letters of options with a value.
pub(crate) fn files(arguments: &[Word], valued: &str) -> (Vec<Word>, Vec<Word>) {
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    let mut uploads = false;
    for (index, word) in arguments.iter().enumerate() {
        let Some((options, value)) = option(word, arguments.get(index + 1), valued) else { continue };
        for option in options {
            match option {
                Value::Text => reads.extend(behind_at(&value)),
                Value::NamedText => reads.extend(named(&value)),
                Value::Form => reads.extend(form(&value)),
                Value::Cookies if value.prefix.contains('=') => {}
                Value::Certificate if value.prefix.contains(':') => {
                    reads.extend(value.prefix.split(':').next().map(Word::of));
                }
                Value::Uploaded => {
                    uploads = true;
                    reads.push(if value.prefix.contains(['{', '[']) { one_unknown() } else { value.clone() });
                }
                Value::Cookies | Value::Read | Value::Certificate => reads.push(value.clone()),
                Value::Written => writes.push(value.clone()),
                Value::WrittenIn => writes.push(below(&value)),
            }
        }
    }
    let urls: Vec<Word> = arguments.iter().filter_map(file_of_url).collect();
    if uploads {
        writes.extend(urls.iter().cloned());
    }
    reads.extend(urls);
    (reads, writes)
}

/// The options that an argument is, or can be short for, with the value.
fn option(word: &Word, next: Option<&Word>, valued: &str) -> Option<(Vec<Value>, Word)> {
    let own_or_next = |own: Option<&str>| match own {
        Some(own) => Some(part(word, own)),
        None if word.text().is_some() => next.cloned(),
        None => Some(one_unknown()),
    };
    if let Some(long) = word.prefix.strip_prefix("--") {
        let (name, own) = long.split_once('=').map_or((long, None), |(name, own)| (name, Some(own)));
        let of = |is_it: &dyn Fn(&str) -> bool| -> Vec<Value> {
            OPTIONS.iter().filter(|(_, long, _)| is_it(long)).map(|(.., value)| *value).collect()
        };
        let whole = of(&|long| long == name);
        let found =
            if whole.is_empty() && !name.is_empty() { of(&|long| long.starts_with(name)) } else { whole };
        return Some((found, own_or_next(own)?));
    }
    let letters = word.prefix.strip_prefix('-')?;
    let at = letters.find(|letter| valued.contains(letter))?;
    let (letter, own) = letters[at..].split_at(1);
    let found = OPTIONS.iter().filter(|(known, ..)| *known == letter).map(|(.., value)| *value).collect();
    Some((found, own_or_next(Some(own).filter(|own| !own.is_empty()))?))
}

/// The file of `@FILE`.
fn behind_at(value: &Word) -> Option<Word> {
    match value.prefix.strip_prefix('@') {
        Some(file) => Some(part(value, file)),
        None => (value.prefix.is_empty() && value.text().is_none()).then(one_unknown),
    }
}

/// The file of `name@FILE`.
fn named(value: &Word) -> Option<Word> {
    match value.prefix.split_once(['=', '@']) {
        Some((name, file)) => value.prefix[name.len()..].starts_with('@').then(|| part(value, file)),
        None => value.text().is_none().then(one_unknown),
    }
}

/// The files of `name=@FILE,FILE;type=TYPE;headers=@FILE`.
fn form(value: &Word) -> Vec<Word> {
    let content = value.prefix.split_once('=').map(|(_, content)| content);
    let Some(content) = content.filter(|content| !content.is_empty() || value.text().is_some()) else {
        return if value.text().is_none() { vec![one_unknown()] } else { Vec::new() };
    };
    let is_file = content.starts_with(['@', '<']);
    if !is_file && !content.contains("headers=") {
        return Vec::new();
    }
    // What is in quotes can have the others in it.
    if value.text().is_none() || content.contains(['"', '\\']) {
        return vec![one_unknown()];
    }
    let files = content.split([',', ';']).enumerate().filter_map(|(index, piece)| {
        let piece = piece.trim_start();
        match piece.strip_prefix("headers=") {
            Some(headers) => headers.strip_prefix(['@', '<']).map(Word::of),
            None if index == 0 => piece.strip_prefix(['@', '<']).map(Word::of),
            None => is_file.then(|| Word::of(piece)),
        }
    });
    files.collect()
}

/// The file of a `file:` URL, that an argument is or that is behind its `=`. What curl, or another, reads in it as more than a path
/// is any file.
pub(crate) fn file_of_url(word: &Word) -> Option<Word> {
    const SCHEME: &str = "file:";
    let is_url = |text: &&str| text.get(..SCHEME.len()).is_some_and(|s| s.eq_ignore_ascii_case(SCHEME));
    let value = word.prefix.split_once('=').map(|(_, value)| value);
    let url = [Some(word.prefix.as_str()), value].into_iter().flatten().find(is_url)?;
    let rest = &url[SCHEME.len()..];
    // Behind two, there is a host.
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
        None => rest,
    };
    let is_plain = !path.is_empty() && !path.contains(['%', '?', '#', '{', '[', '\\']);
    Some(if is_plain { part(word, path) } else { one_unknown() })
}

/// Somewhere in a directory.
fn below(directory: &Word) -> Word {
    match directory.text() {
        Some(directory) => Word { prefix: format!("{directory}/"), is_glob: true, ..Word::default() },
        None => one_unknown(),
    }
}

fn one_unknown() -> Word {
    Word { is_many: false, ..Word::unknown() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x$` is a word that is not known to its end; `?` is a file that is not known at all.
    fn check(line: &str, reads: &[&str], writes: &[&str]) {
        let of = |text: &str| match text.split_once('$') {
            Some((prefix, _)) => Word { prefix: prefix.into(), ..Word::default() },
            None => Word::of(text),
        };
        let words: Vec<Word> = line.split(' ').map(of).collect();
        let named = |words: Vec<Word>| -> Vec<String> {
            let name = |word: Word| match word.text() {
                Some(text) => text.to_owned(),
                None => word.prefix + if word.is_glob { "*" } else { "?" },
            };
            words.into_iter().map(name).collect()
        };
        let (found_reads, found_writes) = files(&words, "HdXouUAebcFTmwxEKrtyYzCDQP");
        let found = (named(found_reads), named(found_writes));
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(found, (owned(reads), owned(writes)), "{line}");
    }

    #[test]
    fn texts() {
        check("-d @a h", &["a"], &[]);
        check("-sd@a h", &["a"], &[]);
        check("-d a@b h", &[], &[]);
        check("-XPOST h --data-binary=@a --data-bin @b", &["a", "b"], &[]);
        check("--data-raw @a h", &[], &[]);
        check("--data-urlencode a@b --data-urlencode a=@b --data-urlencode @c h", &["b", "c"], &[]);
        check("-d $ h", &["?"], &[]);
        check("-d @a/$ h", &["a/?"], &[]);
        check("-d x$ -H a:$ h", &[], &[]);
        check("-u d@a h", &[], &[]);
    }

    #[test]
    fn forms() {
        check("-F f=@a h", &["a"], &[]);
        check("-Ff=<a;type=x h", &["a", "type=x"], &[]);
        check("--form f=@a,b;headers=@c h", &["a", "b", "c"], &[]);
        check("--form f=x;headers=@c h", &["c"], &[]);
        check("-F f=@\"a,b\" h", &["?"], &[]);
        check("-F f=$ h", &["?"], &[]);
        check("-F f=a@b --form-string f=@a h", &[], &[]);
    }

    #[test]
    fn other_files() {
        check("-T a -b c=d -b e -E f:g h", &["a", "e", "f"], &[]);
        check("-T {a,b} h", &["?"], &[]);
        check("-c a -D b --trace-asc c --output-dir d h", &[], &["a", "b", "c", "d/*"]);
    }

    #[test]
    fn urls() {
        check("file:///a/b FILE:/c file://localhost/d", &["/a/b", "/c", "/d"], &[]);
        check("--url=file:///a", &["/a"], &[]);
        check("file:///%61 file:///{a,b} file://$ file:///a/$", &["?", "?", "?", "/a/?"], &[]);
        check("-T a file:///b", &["a", "/b"], &["/b"]);
        check("https://file:1/x files://a/b", &[], &[]);
    }
}

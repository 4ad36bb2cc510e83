//! Files and hosts that arguments name.
//!
//! The arguments of well-known programs are told apart, see [`known`](crate::known); of another program, whatever looks like a path is
//! taken for a file that may be read or written, and whatever looks like a URL for a host.

use std::collections::BTreeSet;

use treeline_policy::{
    tool::{Peer, Place},
    url::host_of,
};

use crate::{
    curl::file_of_url,
    directories::{Directories, normal},
    files,
    known::PROGRAMS,
    walk::Walk,
    word::Word,
};

/// Programs whose `-o` names what they write.
const OUTPUTS: [&str; 12] =
    ["curl", "wget", "gcc", "g++", "cc", "c++", "clang", "ld", "sort", "go", "pandoc", "tree"];
/// Programs that reach hosts by their operands, with letters of options whose value is an argument of its own.
const NETWORK: [(&str, &str); 22] = [
    ("curl", "HdXouUAebcFTmwxEKrtyYzCDQP"),
    ("wget", "OoePUTtiaQ"),
    ("http", ""),
    ("https", ""),
    ("xh", ""),
    ("ping", "cisWwItQ"),
    ("ping6", "cisWw"),
    ("nc", "pswqxXiI"),
    ("ncat", "pswqxei"),
    ("netcat", "pswq"),
    ("telnet", "l"),
    ("ftp", "P"),
    ("sftp", "oPiFcbB"),
    ("ssh", "oplniFLRDJWbcEeImOQSwB"),
    ("scp", "oPiFcl"),
    ("rsync", "ef"),
    ("dig", "tpbkqyx"),
    ("host", "tcWR"),
    ("nslookup", ""),
    ("whois", "hp"),
    ("traceroute", "mfgpqwsi"),
    ("nmap", "poiegDS"),
];

/// The files that a word stands for; none for what is a device and no file.
pub(crate) fn places(word: &Word, directories: &Directories) -> Vec<Place> {
    const DEVICES: [&str; 8] =
        ["/dev/null", "/dev/zero", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/full", "-"];
    match word.text() {
        Some(text) => {
            let path = normal("", text);
            let is_device = |path: &str| DEVICES.contains(&path) || path.starts_with("/dev/fd/");
            match path.as_deref().unwrap_or(text) {
                path if is_device(path) => Vec::new(),
                path => directories.places(path, Place::At),
            }
        }
        None if word.is_glob => {
            let directory = word.prefix.rfind('/').map_or(".", |at| &word.prefix[..=at]);
            directories.places(directory, Place::Below)
        }
        None => vec![Place::Unknown],
    }
}

/// Takes up what a program's arguments name. Whether that is all that it is told to use.
pub(crate) fn run(walk: &mut Walk, program: &str, arguments: &[Word]) -> bool {
    let directories = walk.directories();
    let at = |word: &Word| places(word, &directories);
    let known = PROGRAMS.iter().find(|known| known.name == program);
    let output = Some(["-o", "-O", "--output", "--output-document"]).filter(|_| OUTPUTS.contains(&program));
    let valued = known.map_or("", |known| known.valued);
    let outputs = output.map(|options| values_of(arguments, &options, valued)).unwrap_or_default();
    let is_complete = if let Some(known) = known {
        files::run(walk, known, arguments)
    } else {
        let written: BTreeSet<&str> = outputs.iter().map(|word| word.prefix.as_str()).collect();
        let others = arguments.iter().filter(|word| !written.contains(word.prefix.as_str()));
        let paths = others.filter_map(path_in);
        walk.features.touches.extend(paths.flat_map(|word| at(&word)));
        false
    };
    walk.features.writes.extend(outputs.iter().flat_map(at));
    hosts(walk, program, arguments);
    is_complete
}

/// What of an argument looks like a path: all of it, or what is behind the `=` of an option or of `name=/path`; of a `file:` URL its file.
fn path_in(word: &Word) -> Option<Word> {
    if let Some(file) = file_of_url(word) {
        return Some(file);
    }
    let is_path =
        |text: &str| text.starts_with(['/', '.', '~']) || text.contains('/') && !text.contains("://");
    let value = word.prefix.split_once('=').map(|(_, value)| value);
    match (word.prefix.strip_prefix('-'), value) {
        (Some(_), value) => value.filter(|value| is_path(value)).map(|value| part(word, value)),
        (None, Some(value)) if value.starts_with(['/', '.', '~']) => Some(part(word, value)),
        (None, _) => is_path(&word.prefix).then(|| word.clone()),
    }
}

/// The rest of a word behind what it begins with.
pub(crate) fn part(word: &Word, rest: &str) -> Word {
    if word.text().is_some() { Word::of(rest) } else { Word { prefix: rest.to_owned(), ..word.clone() } }
}

/// The arguments that are no options and no values of options.
pub(crate) fn operands(arguments: &[Word], valued: &str) -> Vec<Word> {
    indices_of_operands(arguments, valued).into_iter().map(|index| arguments[index].clone()).collect()
}

/// Which arguments are no options and no values of options.
pub(crate) fn indices_of_operands(arguments: &[Word], valued: &str) -> Vec<usize> {
    let mut operands = Vec::new();
    let mut words = arguments.iter().enumerate();
    let mut are_all = false;
    while let Some((index, word)) = words.next() {
        match word.prefix.strip_prefix('-').filter(|rest| !are_all && !rest.is_empty()) {
            Some("-") if word.text().is_some() => are_all = true,
            Some(option) => {
                // What is behind the first one with a value is that value.
                let first = option.find(|letter| valued.contains(letter));
                let is_last = first.is_some_and(|at| at + 1 == option.len());
                if !option.starts_with('-') && is_last && word.text().is_some() {
                    words.next();
                }
            }
            None => operands.push(index),
        }
    }
    operands
}

/// The values of such options, of one letter or long, where `valued` are the letters of all that have one: `-rt x`, `-rtx`.
pub(crate) fn values_of(arguments: &[Word], options: &[&str], valued: &str) -> Vec<Word> {
    let value = |(index, word): (usize, &Word), option: &&str| {
        let behind = match option.strip_prefix("--") {
            Some(_) => word.prefix.strip_prefix(option)?,
            None => {
                let letters = word.prefix.strip_prefix('-').filter(|letters| !letters.starts_with('-'))?;
                let at = letters.find(|letter| option.ends_with(letter) || valued.contains(letter))?;
                let is_it = letters[at..].starts_with(&option[1..]);
                is_it.then(|| &letters[at + 1..])?
            }
        };
        match (behind.strip_prefix('='), word.text()) {
            (_, Some(_)) if behind.is_empty() => arguments.get(index + 1).cloned(),
            (Some(value), _) if option.starts_with("--") => Some(part(word, value)),
            _ => (!option.starts_with("--")).then(|| part(word, behind)),
        }
    };
    let words = arguments.iter().enumerate();
    words.filter_map(|word| options.iter().find_map(|option| value(word, option))).collect()
}

/// Whether an argument is options of one letter each.
pub(crate) fn is_letters(text: &str) -> bool {
    text.len() > 1 && text.starts_with('-') && !text.starts_with("--")
}

fn hosts(walk: &mut Walk, program: &str, arguments: &[Word]) {
    for word in arguments {
        // Wherever it stands in a word: `--proxy=http://...`, `origin=https://...`.
        if let Some(at) = word.prefix.find("://") {
            // A file, of this machine.
            if word.prefix[at + 3..].starts_with('/') && file_of_url(word).is_some() {
                continue;
            }
            walk.features.hosts.push(peer(word, &word.prefix[at + 3..]));
        } else if program == "git" && word.prefix.contains('@') && word.prefix.contains(':') {
            walk.features.hosts.push(peer(word, &word.prefix));
        }
    }
    let Some((_, valued)) = NETWORK.iter().find(|(known, _)| *known == program) else { return };
    let operands = operands(arguments, valued);
    let is_copy = matches!(program, "scp" | "rsync");
    let operands = operands.iter().filter(|word| !word.prefix.contains("://"));
    for word in operands.take(if program == "ssh" { 1 } else { usize::MAX }) {
        match word.text() {
            Some(text) if is_copy && !text.split('/').next().is_some_and(|first| first.contains(':')) => {}
            Some(text) if text.contains(char::is_whitespace) => {}
            // A port.
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {}
            _ => walk.features.hosts.push(peer(word, &word.prefix)),
        }
    }
}

/// The host of `user@host:port/path`.
fn peer(word: &Word, text: &str) -> Peer {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    // Without its end it could go on with what is not known.
    if word.text().is_none() && authority.len() == text.len() {
        return Peer::Unknown;
    }
    match host_of(authority) {
        Some(host) => Peer::Named(host),
        None => Peer::Unknown,
    }
}

/// The host of a URL; none if it is no URL with one. Whoever resolves it may read an unusual one in another way, so of that it is not
/// known which it is.
#[must_use]
pub(crate) fn peer_of_url(url: &str) -> Option<Peer> {
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(host_of(authority).map_or(Peer::Unknown, Peer::Named))
}

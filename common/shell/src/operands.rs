//! Files and hosts that arguments name.
//!
//! The arguments of well-known programs are told apart; of another program, whatever looks like a path is taken for a file that is
//! read, and whatever looks like a URL for a host.

use treeline_policy::{
    tool::{Peer, Place},
    url::host_of,
};

use crate::{
    directories::{Directories, normal},
    walk::Walk,
    word::Word,
};

/// What a program does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Reads all but the first so many.
    Read(usize),
    /// Writes all but the first so many.
    Write(usize),
    /// Reads all but the last, which it writes.
    Copy,
    /// Writes all, as it removes what it moves.
    Move,
}

/// Letters of options whose value is an argument of its own, by program.
const USES: [(&str, Use, &str); 52] = [
    ("cat", Use::Read(0), ""),
    ("tac", Use::Read(0), ""),
    ("head", Use::Read(0), "nc"),
    ("tail", Use::Read(0), "nc"),
    ("less", Use::Read(0), ""),
    ("more", Use::Read(0), ""),
    ("nl", Use::Read(0), ""),
    ("od", Use::Read(0), "tjNw"),
    ("xxd", Use::Read(0), "lsc"),
    ("hexdump", Use::Read(0), "ns"),
    ("strings", Use::Read(0), "n"),
    ("wc", Use::Read(0), ""),
    ("sort", Use::Read(0), "ktSTo"),
    ("uniq", Use::Read(0), "fsw"),
    ("cut", Use::Read(0), "dfcb"),
    ("diff", Use::Read(0), "UC"),
    ("cmp", Use::Read(0), "n"),
    ("comm", Use::Read(0), ""),
    ("stat", Use::Read(0), "c"),
    ("file", Use::Read(0), "m"),
    ("md5sum", Use::Read(0), ""),
    ("sha1sum", Use::Read(0), ""),
    ("sha256sum", Use::Read(0), ""),
    ("base64", Use::Read(0), "w"),
    ("ls", Use::Read(0), ""),
    ("find", Use::Read(0), ""),
    ("du", Use::Read(0), "d"),
    ("tree", Use::Read(0), "LI"),
    ("grep", Use::Read(1), "ABCm"),
    ("egrep", Use::Read(1), "ABCm"),
    ("fgrep", Use::Read(1), "ABCm"),
    ("rg", Use::Read(1), "ABCmgtT"),
    ("jq", Use::Read(1), ""),
    ("awk", Use::Read(1), "Fv"),
    ("gawk", Use::Read(1), "Fv"),
    ("rm", Use::Write(0), ""),
    ("rmdir", Use::Write(0), ""),
    ("mkdir", Use::Write(0), "m"),
    ("touch", Use::Write(0), "dtr"),
    ("tee", Use::Write(0), ""),
    ("truncate", Use::Write(0), "s"),
    ("shred", Use::Write(0), "ns"),
    ("unlink", Use::Write(0), ""),
    ("mkfifo", Use::Write(0), "m"),
    ("chmod", Use::Write(1), ""),
    ("chown", Use::Write(1), ""),
    ("chgrp", Use::Write(1), ""),
    ("cp", Use::Copy, "St"),
    ("install", Use::Copy, "mogSt"),
    ("ln", Use::Copy, "St"),
    ("mv", Use::Move, "St"),
    ("sed", Use::Read(0), ""),
];
/// Programs whose `-o` names what they write.
const OUTPUTS: [&str; 11] =
    ["curl", "wget", "gcc", "g++", "cc", "c++", "clang", "ld", "sort", "go", "pandoc"];
/// Programs that reach hosts by their operands, with letters of options whose value is an argument of its own.
const NETWORK: [(&str, &str); 22] = [
    ("curl", "HdXouAebcFTmwxEKrtyYzCDQP"),
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

/// Takes up what a program's arguments name.
pub(crate) fn run(walk: &mut Walk, program: &str, arguments: &[Word]) {
    let directories = walk.directories();
    let at = |word: &Word| places(word, &directories);
    let output = Some(["-o", "-O", "--output", "--output-document"]).filter(|_| OUTPUTS.contains(&program));
    let output = output.and_then(|options| value_of(arguments, &options));
    if program == "dd" {
        for word in arguments {
            match word.prefix.split_once('=') {
                Some(("of", path)) => walk.features.writes.extend(at(&part(word, path))),
                Some(("if", path)) => walk.features.reads.extend(at(&part(word, path))),
                _ => {}
            }
        }
    } else if let Some((_, used, valued)) = USES.iter().find(|(known, ..)| *known == program) {
        let operands = operands(arguments, valued);
        let (reads, writes) = (&mut walk.features.reads, &mut walk.features.writes);
        // `cp -t DIRECTORY FILE...`
        let target = value_of(arguments, &["-t", "--target-directory"]);
        match used {
            Use::Read(_) if program == "sed" => {
                let has_script = value_of(arguments, &["-e", "-f", "--expression"]).is_some();
                let files = operands.iter().skip(usize::from(!has_script)).flat_map(&at);
                let in_place = arguments
                    .iter()
                    .any(|word| word.prefix.starts_with("-i") || word.prefix.starts_with("--in-place"));
                if in_place { writes.extend(files) } else { reads.extend(files) }
            }
            Use::Read(skip) => reads.extend(operands.iter().skip(*skip).flat_map(&at)),
            Use::Write(skip) => writes.extend(operands.iter().skip(*skip).flat_map(&at)),
            Use::Move => writes.extend(operands.iter().chain(target.as_ref()).flat_map(at)),
            Use::Copy => {
                let (last, others) = match &target {
                    Some(target) => (Some(target), operands.as_slice()),
                    None => {
                        operands.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others))
                    }
                };
                reads.extend(others.iter().flat_map(at));
                writes.extend(last.into_iter().flat_map(at));
            }
        }
    } else {
        let is_path = |word: &&Word| {
            let is_flag = word.prefix.starts_with('-');
            !is_flag && word.prefix.starts_with(['/', '.'])
                || word.prefix.contains('/') && !word.prefix.contains("://") && !is_flag
        };
        walk.features.reads.extend(
            arguments.iter().filter(is_path).filter(|word| output.as_ref() != Some(*word)).flat_map(at),
        );
    }
    walk.features.writes.extend(output.iter().flat_map(at));
    hosts(walk, program, arguments);
}

/// The rest of a word behind what it begins with.
fn part(word: &Word, rest: &str) -> Word {
    if word.text().is_some() { Word::of(rest) } else { Word { prefix: rest.to_owned(), ..word.clone() } }
}

/// The arguments that are no options and no values of options.
fn operands(arguments: &[Word], valued: &str) -> Vec<Word> {
    let mut operands = Vec::new();
    let mut words = arguments.iter();
    let mut are_all = false;
    while let Some(word) = words.next() {
        match word.prefix.strip_prefix('-').filter(|rest| !are_all && !rest.is_empty()) {
            Some("-") if word.text().is_some() => are_all = true,
            Some(option) => {
                let ends_valued = option.chars().last().is_some_and(|last| valued.contains(last));
                if !option.starts_with('-') && ends_valued && word.text().is_some() {
                    words.next();
                }
            }
            None => operands.push(word.clone()),
        }
    }
    operands
}

/// The value of the first of such options.
fn value_of(arguments: &[Word], options: &[&str]) -> Option<Word> {
    for (index, word) in arguments.iter().enumerate() {
        for option in options {
            if word.text() == Some(option) {
                return arguments.get(index + 1).cloned();
            }
            let attached = word.prefix.strip_prefix(option).filter(|rest| !rest.is_empty());
            match attached {
                Some(value) if option.starts_with("--") => {
                    if let Some(value) = value.strip_prefix('=') {
                        return Some(part(word, value));
                    }
                }
                Some(value) => return Some(part(word, value)),
                None => {}
            }
        }
    }
    None
}

fn hosts(walk: &mut Walk, program: &str, arguments: &[Word]) {
    for word in arguments {
        // Wherever it stands in a word: `--proxy=http://...`, `origin=https://...`.
        if let Some(at) = word.prefix.find("://") {
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

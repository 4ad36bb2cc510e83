//! A call of an agent's tool, by what its arguments say: not the text that a rule would have to guess at, but what was
//! found in it.
//!
//! What is found is never less than what is there, or something says so: what could not be followed is in
//! [`Features::opaque`], what a command is called with besides its words in [`Command::is_vague`], and whether its files and
//! hosts are all of them in [`Command::is_complete`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool's name, as the agent has it.
    pub tool: String,
    /// What its arguments say.
    pub features: Features,
}

/// What the arguments of a tool say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Features {
    /// The programs that are run, each with what it is called with. What a program runs by itself is not among them.
    pub commands: Vec<Command>,
    /// Files that are read.
    pub reads: Vec<Place>,
    /// Files that are written, made, moved or removed.
    pub writes: Vec<Place>,
    /// Files that are named, of which it is not known whether they are read or written, or either.
    pub touches: Vec<Place>,
    /// Hosts that are named.
    pub hosts: Vec<Peer>,
    /// Kinds of secrets that stand in the arguments.
    pub secrets: Vec<Secret>,
    /// Whether all of the arguments were looked through for secrets.
    pub is_scanned: bool,
    /// What could not be followed.
    pub opaque: Vec<Opaque>,
    /// The root of the repository that the agent works in, where it is known.
    pub repository: Option<String>,
}

/// Where a tool is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workplace {
    /// The working directory, absolute.
    pub cwd: Option<String>,
    /// The home of who runs the agent, absolute.
    pub home: Option<String>,
    /// The root of the repository that the agent works in, absolute.
    pub repository: Option<String>,
}

/// Who finds out what the arguments of a tool say.
pub trait ToolReader {
    /// What they say.
    fn features(&mut self, tool: &str, input: &serde_json::Value, place: &Workplace) -> Features;
}

/// One who finds out nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unread;

impl ToolReader for Unread {
    fn features(&mut self, _: &str, _: &serde_json::Value, _: &Workplace) -> Features {
        Features::unknown(Opaque::Input)
    }
}

impl Features {
    /// What is said of arguments that cannot be followed at all.
    #[must_use]
    pub fn unknown(why: Opaque) -> Self {
        Self { opaque: vec![why], ..Self::default() }
    }

    /// The same, with nothing in it twice and in an order that does not depend on where it stood.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        fn sort<T: Ord>(items: &mut Vec<T>) {
            items.sort_unstable();
            items.dedup();
        }
        sort(&mut self.commands);
        sort(&mut self.reads);
        sort(&mut self.writes);
        sort(&mut self.touches);
        sort(&mut self.hosts);
        sort(&mut self.secrets);
        sort(&mut self.opaque);
        self
    }
}

/// A program that is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Command {
    /// Its name: what is behind the last `/` of what was written.
    pub program: String,
    /// Where it is, if it was written with a `/`; otherwise it is looked for in the directories of a variable.
    pub path: Option<Place>,
    /// Its arguments but for flags, in their order.
    pub words: Vec<String>,
    /// Its arguments that begin with `-`: each as it is written, without what is behind a `=`, and of one dash with several
    /// letters also each letter (`-rf` is `-rf`, `-r` and `-f`).
    pub flags: Vec<String>,
    /// All of its arguments in their order, for people: what is not known of one is `...`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Whether it has arguments besides that are not known.
    pub is_vague: bool,
    /// Whether the files and hosts that were found are all that it is told to use: each argument is known, and so is what this
    /// program does with it.
    pub is_complete: bool,
}

/// A file, as far as it is known which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// This one: absolute, without `.` and `..`. Symbolic links are not followed.
    At(String),
    /// One or several below this directory.
    Below(String),
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(path) => f.write_str(path),
            Self::Below(directory) => write!(f, "{}/...", directory.trim_end_matches('/')),
            Self::Unknown => f.write_str("a file that cannot be told"),
        }
    }
}

/// A host, as far as it is known which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Its name or address, in lower case.
    Named(String),
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(host) => f.write_str(host),
            Self::Unknown => f.write_str("a host that cannot be told"),
        }
    }
}

/// Declares an enum of words, with its table.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Each with the word for it.
            pub const WORDS: [(&'static str, Self); [$($word),+].len()] = [$(($word, Self::$variant)),+];

            /// The word for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                Self::WORDS[self as usize].0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// A kind of secret, told by its shape.
    Secret {
        /// A private key in PEM or OpenSSH form.
        PrivateKey = "private-key",
        /// An access key of AWS.
        Aws = "aws-key",
        /// A token of GitHub.
        Github = "github-token",
        /// A token of GitLab.
        Gitlab = "gitlab-token",
        /// A token of Slack.
        Slack = "slack-token",
        /// A key of Anthropic's API.
        Anthropic = "anthropic-key",
        /// A key of OpenAI's API.
        Openai = "openai-key",
        /// A key of Google's APIs.
        Google = "google-key",
        /// A token of the npm registry.
        Npm = "npm-token",
        /// A JSON Web Token.
        Jwt = "jwt",
        /// A user and a password in a URL.
        UrlPassword = "url-password",
    }
}

words! {
    /// Why something could not be followed: what it runs, reads or writes can be anything.
    Opaque {
        /// It is no bash, or bash that this reader does not follow.
        Syntax = "syntax",
        /// It is longer or deeper than is looked at.
        Bounds = "bounds",
        /// The reader did not answer in time, or ended.
        Parser = "parser",
        /// `eval`.
        Eval = "eval",
        /// A file that the shell is told to read, as `source` does.
        Source = "source",
        /// A program whose name is not known before it runs.
        Program = "program",
        /// A shell that reads its commands from where they are not known.
        Shell = "shell",
        /// An interpreter that is given a program as an argument or on its input.
        Interpreter = "interpreter",
        /// A variable that changes which programs are run, or runs one.
        Environment = "environment",
        /// A builtin that changes what the rest means, or runs what it is given later.
        Builtin = "builtin",
        /// Arithmetic on variables, which bash evaluates again.
        Arithmetic = "arithmetic",
        /// A command for another machine.
        Remote = "remote",
        /// A program that runs another one, called in a way that is not known.
        Wrapper = "wrapper",
        /// Arguments of a tool that are not what the tool takes.
        Input = "input",
    }
}

impl Opaque {
    /// Whether it says of the whole that it was not read, so that whatever else cannot be followed may be in it, too.
    #[must_use]
    pub fn hides_others(self) -> bool {
        matches!(self, Self::Syntax | Self::Bounds | Self::Parser | Self::Input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_the_order_of_their_values() {
        for (index, (word, secret)) in Secret::WORDS.into_iter().enumerate() {
            assert_eq!((secret as usize, secret.name()), (index, word));
        }
        for (index, (word, opaque)) in Opaque::WORDS.into_iter().enumerate() {
            assert_eq!((opaque as usize, opaque.name()), (index, word));
        }
    }

    #[test]
    fn what_is_found_twice_counts_once() {
        let features = Features {
            opaque: vec![Opaque::Source, Opaque::Eval, Opaque::Source],
            writes: vec![Place::Unknown, Place::At("/b".into()), Place::At("/a".into())],
            ..Features::default()
        };
        let sorted = features.sorted();
        assert_eq!(sorted.opaque, [Opaque::Eval, Opaque::Source]);
        assert_eq!(sorted.writes, [Place::At("/a".into()), Place::At("/b".into()), Place::Unknown]);
    }
}

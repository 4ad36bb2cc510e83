//! The names of findings, for scripts and for looking them up.

use serde::Serialize;

/// Makes the enum and its list from one table, so that no variant can be left out of the list.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// What kind of finding it is. The name of one stays when its message gets other words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name: lower-case words, separated by `-`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    /// An address or a block that is none, or that means another one.
    BadAddress "bad-address",
    /// A date that is none.
    BadDate "bad-date",
    /// A length of time that is none, or too long.
    BadDuration "bad-duration",
    /// An answer that no policy gives.
    BadExpectation "bad-expectation",
    /// A SHA-256 that is none.
    BadHash "bad-hash",
    /// A host that is none, or that is not written as it is compared.
    BadHost "bad-host",
    /// An id with characters that an id cannot have.
    BadId "bad-id",
    /// A path of a file that is not below the directory of the one that includes it.
    BadInclude "bad-include",
    /// A link that is no https address.
    BadLink "bad-link",
    /// A number that cannot stand there.
    BadNumber "bad-number",
    /// Words that do not say what is done.
    BadObject "bad-object",
    /// A name or a version of a package that its registry cannot have.
    BadPackage "bad-package",
    /// A path that is none of a file.
    BadPath "bad-path",
    /// A pattern that cannot be matched.
    BadPattern "bad-pattern",
    /// A port or a range that is none.
    BadPort "bad-port",
    /// A URL that is none of a server.
    BadUrl "bad-url",
    /// Work of a broker that cannot be proven to be a session's.
    CannotAdopt "cannot-adopt",
    /// A file that cannot be read.
    CannotInclude "cannot-include",
    /// What a session says of itself, where it could let something through.
    Claim "claim",
    /// Two keys of which one excludes the other.
    ConflictingKeys "conflicting-keys",
    /// Two rules that match the same, one to refuse and one to record.
    Contradictory "contradictory",
    /// A character that would act on a terminal.
    ControlCharacter "control-character",
    /// A content in two rules.
    DuplicateContent "duplicate-content",
    /// An id of two rules.
    DuplicateId "duplicate-id",
    /// A file that is included twice.
    DuplicateInclude "duplicate-include",
    /// An item that is in its list already.
    DuplicateItem "duplicate-item",
    /// A key that is in its mapping already.
    DuplicateKey "duplicate-key",
    /// A name of two lists.
    DuplicateList "duplicate-list",
    /// A name of two policies that are to hold together.
    DuplicatePolicy "duplicate-policy",
    /// A list or a text without anything in it.
    Empty "empty",
    /// A file without a policy in it.
    EmptyPolicy "empty-policy",
    /// A part of a rule that its own exceptions take out as a whole.
    ExceptedItem "excepted-item",
    /// A rule that is no longer in force.
    Expired "expired",
    /// A rule that will soon be no longer in force.
    ExpiresSoon "expires-soon",
    /// An item of `except` or `only` that everybody falls under.
    ForEverybody "for-everybody",
    /// A host name, where only addresses can be matched.
    HostName "host-name",
    /// A rule that allows, where there is nothing that it could lift.
    IdleAllow "idle-allow",
    /// An approval of what can never be approved of.
    IdleApproval "idle-approval",
    /// An exception that changes no answer.
    IdleException "idle-exception",
    /// A key that says nothing without another one.
    IdleKey "idle-key",
    /// A lint that is silenced where there is none.
    IdleSilence "idle-silence",
    /// A file that includes itself, directly or through others.
    IncludeCycle "include-cycle",
    /// A file that is included through more files than can be overseen.
    IncludeTooDeep "include-too-deep",
    /// A list that is a part of itself.
    ListCycle "list-cycle",
    /// A key that has to be there.
    MissingKey "missing-key",
    /// Nesting that no policy has.
    NestedTooDeeply "nested-too-deeply",
    /// A pattern on no filesystem of the machine.
    NoFilesystem "no-filesystem",
    /// A pattern for homes on a machine that has none.
    NoHome "no-home",
    /// More than the kernel's tables hold.
    NoRoom "no-room",
    /// A file that is another part of policies.
    NotAPolicy "not-a-policy",
    /// Rules that were not compared with each other, for they are too many.
    NotCompared "not-compared",
    /// A text that is no YAML, or more than one document.
    NotYaml "not-yaml",
    /// A directory that can be renamed out of a rule's reach, for want of room.
    OpenWay "open-way",
    /// A content that the file of this name does not have.
    OtherContent "other-content",
    /// Files that can be renamed out of a rule's reach.
    RenamedAway "renamed-away",
    /// The name of a server, which says nothing of what it is.
    ServerName "server-name",
    /// A rule that never decides, because of another one.
    Shadowed "shadowed",
    /// Tables that decide other than the policy means.
    TablesDiffer "tables-differ",
    /// A test that is not passed.
    TestFailed "test-failed",
    /// A pattern that begins with a symbolic link.
    ThroughLink "through-link",
    /// A pattern with more components than can be matched.
    TooDeep "too-deep",
    /// A text that is longer than its bound.
    TooLong "too-long",
    /// More files than a policy can have.
    TooManyFiles "too-many-files",
    /// More lists than a policy can have.
    TooManyLists "too-many-lists",
    /// More rules than a policy can have.
    TooManyRules "too-many-rules",
    /// A rule that is to refuse and that an attach mode cannot enforce.
    Unenforceable "unenforceable",
    /// A key that the language does not have there.
    UnknownKey "unknown-key",
    /// A list that is not defined.
    UnknownList "unknown-list",
    /// A rule that the policy does not have.
    UnknownRule "unknown-rule",
    /// A version of the language that is not known.
    UnknownVersion "unknown-version",
    /// A word that is none of those that can stand there.
    UnknownWord "unknown-word",
    /// A rule that its own exceptions leave nothing of.
    Unreachable "unreachable",
    /// A list that no rule has.
    UnusedList "unused-list",
    /// A server that a rule allows by what it says of itself, or by its interpreter.
    WeakServer "weak-server",
    /// An exception that is likely for more than is meant.
    WideException "wide-exception",
    /// An executable of an exception that others than root can replace.
    WritableExecutable "writable-executable",
    /// What a policy of its level cannot have.
    WrongLevel "wrong-level",
    /// A list where its items cannot stand.
    WrongList "wrong-list",
    /// A value of another type than the key has.
    WrongType "wrong-type",
    /// A part of YAML that the language does not have.
    YamlFeature "yaml-feature",
}

impl Code {
    /// What is only unlikely to be meant, and can be meant all the same: an author can silence these.
    pub const LINTS: &[Self] = &[
        Self::Contradictory,
        Self::ExceptedItem,
        Self::ExpiresSoon,
        Self::IdleAllow,
        Self::IdleApproval,
        Self::IdleException,
        Self::NoHome,
        Self::OtherContent,
        Self::RenamedAway,
        Self::Shadowed,
        Self::ThroughLink,
        Self::Unreachable,
        Self::UnusedList,
        Self::WeakServer,
        Self::WritableExecutable,
    ];
    /// Those of [`Self::LINTS`] that depend on neither the time nor the machine.
    pub const OF_POLICY: &[Self] = &[
        Self::Contradictory,
        Self::ExceptedItem,
        Self::IdleAllow,
        Self::IdleApproval,
        Self::IdleException,
        Self::RenamedAway,
        Self::Shadowed,
        Self::Unreachable,
        Self::UnusedList,
        Self::WeakServer,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_in_order() {
        for name in Code::ALL.iter().map(|code| code.name()) {
            assert!(
                name.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())),
                "{name}"
            );
        }
        assert!(Code::ALL.is_sorted_by(|left, right| left.name() < right.name()), "sorted, and each once");
    }
}

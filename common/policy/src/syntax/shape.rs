//! What can be written where: one description, from which the reader takes the keys, the words and the bounds of texts, the
//! schema for editors is made, and `fmt` knows the order of keys.

/// What can stand in a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Text in words of the author's own.
    Text(&'static Text),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text, or a number, that is read further.
    Scalar(&'static Scalar),
    /// Yes or no.
    Boolean,
    /// Anything: it is not for the policy to say.
    Any,
    /// In a mapping of [`Kinds`]: the word for its kind.
    Kind,
    /// A list.
    List(&'static List),
    /// A mapping from names of the author's own.
    Names(&'static Names),
    /// A mapping with these keys.
    Record(&'static Record),
    /// A mapping of several kinds.
    Kinds(&'static Kinds),
    /// One of these.
    Either(&'static [Shape]),
}

/// Text in words of the author's own.
#[derive(Debug)]
pub(crate) struct Text {
    /// Characters, as they are written.
    pub(crate) chars_max: usize,
    pub(crate) form: Form,
}

/// What characters a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// No control characters. White space around it is not a part of it.
    Line,
    /// As a line, but with line breaks.
    Lines,
    /// What this regular expression matches, and the reader has a message about.
    Exactly(&'static str),
}

/// A scalar with a syntax of its own. The schema may take more than the reader, which has the last word and better messages;
/// it never takes less.
#[derive(Debug)]
pub(crate) struct Scalar {
    /// Its name among the definitions of the schema.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// A regular expression for its text, if it can be one.
    pub(crate) pattern: Option<&'static str>,
    /// Which numbers it can be.
    pub(crate) numbers: Numbers,
    /// Some that are right, as JSON.
    pub(crate) examples: &'static [&'static str],
}

/// Numbers in the place of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    None,
    /// What is digits by chance.
    Any,
    /// Whole ones, the bounds included.
    From(i64, i64),
}

/// A list.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) item: Shape,
    /// Whether there can be none.
    pub(crate) may_be_empty: bool,
    /// Whether each can be there once only.
    pub(crate) is_unique: bool,
    pub(crate) items_max: Option<usize>,
}

/// A mapping from names of the author's own.
#[derive(Debug)]
pub(crate) struct Names {
    /// What each name is.
    pub(crate) name: &'static Text,
    pub(crate) value: Shape,
    pub(crate) names_max: usize,
    /// Whether it is printed on one line where it fits.
    pub(crate) is_inline: bool,
}

/// A mapping with keys of the language.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its name among the definitions of the schema.
    pub(crate) name: &'static str,
    /// What messages call it.
    pub(crate) what: &'static str,
    pub(crate) doc: &'static str,
    /// Its keys, in the order in which they are printed.
    pub(crate) keys: &'static [&'static [Key]],
    pub(crate) demands: &'static [Demand],
    /// Whether it is printed on one line where it fits.
    pub(crate) is_inline: bool,
}

/// A key and what can stand there.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) presence: Presence,
    /// For the author, in an editor.
    pub(crate) doc: &'static str,
}

/// Whether a key has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
    /// It is known in order to be refused with a reason.
    Refused,
}

/// What the keys of a mapping demand of each other. The reader says each in words of its own.
#[derive(Debug)]
pub(crate) enum Demand {
    /// One or more of these.
    AnyOf(&'static [&'static str]),
    /// The first one says nothing without the second.
    Needs(&'static str, &'static str),
    /// Not both.
    Excludes(&'static str, &'static str),
    /// The key with this word, and not the other one.
    WordExcludes { key: &'static str, word: &'static str, other: &'static str },
    /// The key with this word, and none of these keys in another one.
    WordExcludesIn {
        key: &'static str,
        word: &'static str,
        within: &'static str,
        others: &'static [&'static str],
    },
    /// The key with a text that this regular expression matches says nothing without the other one.
    TextNeeds { key: &'static str, pattern: &'static str, other: &'static str },
}

/// A mapping whose other keys depend on its kind.
#[derive(Debug)]
pub(crate) struct Kinds {
    /// Its name among the definitions of the schema.
    pub(crate) name: &'static str,
    /// What messages call it when its kind is not known.
    pub(crate) what: &'static str,
    pub(crate) doc: &'static str,
    /// The key for its kind.
    pub(crate) by: &'static str,
    pub(crate) kinds: &'static [(&'static str, Record)],
}

impl Record {
    /// Its keys, in the order in which they are printed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().copied().flatten()
    }

    /// The description of a key.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Kinds {
    /// The kind of this name.
    pub(crate) fn kind(&self, name: &str) -> Option<&'static Record> {
        self.kinds.iter().find(|(kind, _)| *kind == name).map(|(_, record)| record)
    }

    /// The words for its kinds.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.kinds.iter().map(|(kind, _)| *kind)
    }

    /// Whether every kind has a key.
    pub(crate) fn is_common(&self, key: &Key) -> bool {
        self.kinds.iter().all(|(_, record)| record.key(key.name).is_some())
    }

    /// Every key of any kind, once.
    pub(crate) fn keys(&self) -> Vec<&'static Key> {
        let mut keys: Vec<&Key> = Vec::new();
        for key in self.kinds.iter().flat_map(|(_, record)| record.keys()) {
            if !keys.iter().any(|known| known.name == key.name) {
                keys.push(key);
            }
        }
        keys
    }
}

impl Key {
    /// Whether it is named to who looks for one.
    pub(crate) fn is_offered(&self) -> bool {
        self.presence != Presence::Refused
    }
}

/// A key that has to be there.
pub(crate) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, presence: Presence::Required, doc }
}

/// A key that can be there.
pub(crate) const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, presence: Presence::Optional, doc }
}

/// A list of one or more items, each once.
pub(crate) const fn list_of(item: Shape) -> List {
    List { item, may_be_empty: false, is_unique: true, items_max: None }
}

/// The words of a table that gives each a meaning.
pub(crate) const fn words<T: Copy, const COUNT: usize>(
    table: &[(&'static str, T); COUNT],
) -> [&'static str; COUNT] {
    let mut words = [""; COUNT];
    let mut at = 0;
    while at < COUNT {
        words[at] = table[at].0;
        at += 1;
    }
    words
}

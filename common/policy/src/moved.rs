//! Rules whose texts were added to others: every place in them is in a text of another number then.

use crate::{
    approval::Approval,
    call::{Files, When},
    lint::Silences,
    policy::{AddressException, Kind, Rule, Spared, SubjectItem},
    source::{Moved, Spanned},
};

/// What has places in it.
pub(crate) trait Move {
    /// Moves all of them.
    fn shift(&mut self, by: Moved);
}

impl<T> Move for Spanned<T> {
    fn shift(&mut self, by: Moved) {
        self.span = self.span.moved(by);
    }
}

impl<T: Move> Move for Vec<T> {
    fn shift(&mut self, by: Moved) {
        self.iter_mut().for_each(|one| one.shift(by));
    }
}

impl<T: Move> Move for Option<T> {
    fn shift(&mut self, by: Moved) {
        if let Some(one) = self {
            one.shift(by);
        }
    }
}

// No field is passed over by `..`: one that is added later may have places.
impl Move for Rule {
    fn shift(&mut self, by: Moved) {
        let Self {
            id: _,
            mode: _,
            adopts: _,
            allows: _,
            priority: _,
            severity: _,
            reason: _,
            about: _,
            level: _,
            policy: _,
            loosened_by,
            kind,
            spares,
            exceptions,
            only,
            expires,
            silences,
            span,
        } = self;
        loosened_by.shift(by);
        kind.shift(by);
        spares.shift(by);
        exceptions.shift(by);
        only.shift(by);
        expires.shift(by);
        silences.shift(by);
        *span = span.moved(by);
    }
}

impl Move for Approval {
    fn shift(&mut self, by: Moved) {
        let Self { rules, users: _, groups: _, for_at_most: _, policy: _, span } = self;
        rules.shift(by);
        *span = span.moved(by);
    }
}

impl Move for Kind {
    fn shift(&mut self, by: Moved) {
        match self {
            Self::File { paths, operations: _ } => paths.shift(by),
            Self::Exec { paths, sha256 } => {
                paths.shift(by);
                sha256.shift(by);
            }
            Self::Connect { to, ports: _, except_to, unix, abstracts } => {
                to.shift(by);
                except_to.shift(by);
                unix.shift(by);
                abstracts.shift(by);
            }
            Self::Tool { tools: _, when } => when.shift(by),
            Self::Trace
            | Self::Mcp { servers: _, tools: _ }
            | Self::Posture { require: _, unknown_counts: _ } => {}
        }
    }
}

impl Move for When {
    fn shift(&mut self, by: Moved) {
        let Self { command: _, reads, writes, hosts: _, secrets: _, opaque: _ } = self;
        reads.shift(by);
        writes.shift(by);
    }
}

impl Move for Files {
    fn shift(&mut self, by: Moved) {
        match self {
            Self::Globs(globs) => globs.shift(by),
            Self::InsideRepository | Self::OutsideRepository => {}
        }
    }
}

impl Move for AddressException {
    fn shift(&mut self, by: Moved) {
        let Self { to, ports: _ } = self;
        to.shift(by);
    }
}

impl Move for Spared {
    fn shift(&mut self, by: Moved) {
        let Self { paths, abstracts } = self;
        paths.shift(by);
        abstracts.shift(by);
    }
}

impl Move for SubjectItem {
    fn shift(&mut self, by: Moved) {
        let Self { own: _, descendant_of: _, session: _, reason: _, span } = self;
        *span = span.moved(by);
    }
}

impl Move for Silences {
    fn shift(&mut self, by: Moved) {
        self.0.values_mut().for_each(|reason| reason.shift(by));
    }
}

//! Redirections: files that are opened, and what bash makes a connection of.

use brush_parser::ast::{IoFileRedirectKind, IoFileRedirectTarget, IoRedirect, RedirectList};
use treeline_policy::{
    tool::{Peer, Place},
    url::host_of,
};

use crate::{
    arithmetic::is_number,
    operands,
    parse::Tree,
    walk::Walk,
    word::{self, Word},
};

impl Walk {
    pub(crate) fn redirects(&mut self, tree: &Tree<'_>, redirects: Option<&RedirectList>) {
        for redirect in redirects.iter().flat_map(|list| &list.0) {
            self.redirect(tree, redirect);
        }
    }

    pub(crate) fn redirect(&mut self, tree: &Tree<'_>, redirect: &IoRedirect) {
        match redirect {
            IoRedirect::File(_, kind, IoFileRedirectTarget::Filename(word)) => {
                let word = self.word(tree, word);
                self.opened(kind, &word);
            }
            IoRedirect::File(_, _, IoFileRedirectTarget::ProcessSubstitution(_, subshell)) => {
                self.subshell(tree, subshell);
            }
            IoRedirect::File(_, _, IoFileRedirectTarget::Fd(_)) => {}
            IoRedirect::File(_, kind, IoFileRedirectTarget::Duplicate(word)) => {
                let word = self.word(tree, word);
                // A number is a descriptor, everything else a file.
                let is_descriptor = |text: &str| text == "-" || is_number(text.trim_end_matches('-'));
                if !word.text().is_some_and(is_descriptor) {
                    self.opened(kind, &word);
                }
            }
            IoRedirect::OutputAndError(word, _) => {
                let word = self.word(tree, word);
                self.opened(&IoFileRedirectKind::Write, &word);
            }
            IoRedirect::HereString(_, word) => _ = self.word(tree, word),
            IoRedirect::HereDocument(_, document) => match tree.heredoc(&document.here_end) {
                Ok(document) if document.expands => {
                    self.with_found(|values, found| word::scan(document.body, values, found));
                }
                Ok(_) => {}
                Err(why) => self.opaque(why),
            },
        }
    }

    fn opened(&mut self, kind: &IoFileRedirectKind, word: &Word) {
        // bash opens a connection by such a name.
        const CONNECTING: [&str; 2] = ["/dev/tcp/", "/dev/udp/"];
        if let Some(rest) = CONNECTING.into_iter().find_map(|begin| word.prefix.strip_prefix(begin)) {
            let host = rest.split_once('/').and_then(|(host, _)| host_of(host));
            self.features.hosts.push(host.map_or(Peer::Unknown, Peer::Named));
            return;
        }
        if word.text().is_none() && CONNECTING.iter().any(|begin| begin.starts_with(&word.prefix)) {
            self.features.hosts.push(Peer::Unknown);
        }
        if !self.fits(std::slice::from_ref(word)) {
            return;
        }
        let places = operands::places(word, &self.directories());
        let writes = !matches!(kind, IoFileRedirectKind::Read | IoFileRedirectKind::DuplicateInput);
        if !writes || matches!(kind, IoFileRedirectKind::ReadAndWrite) {
            self.features.reads.extend(places.clone());
        }
        if writes {
            self.features.writes.extend::<Vec<Place>>(places);
        }
    }
}

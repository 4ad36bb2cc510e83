//! Addresses of services, as far as all who read one agree on what it is.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

/// Ports that are meant where none is written.
const PORTS: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];

/// A URL of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Url {
    /// `http`, `https`, `ws` or `wss`.
    pub scheme: String,
    /// Its name or address, in lower case, see [`host_of`].
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, without what is behind `?` or `#`; begins with `/`.
    pub path: String,
}

/// Why a text is no URL that a rule can be about, with what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlError {
    /// What is wrong.
    pub message: &'static str,
    /// What to write.
    pub help: &'static str,
}

impl UrlError {
    /// It is none, or somebody could read it in another way.
    pub(crate) const OTHER: Self = Self {
        message: "is no URL of a server",
        help: "write `https://`, a host and a path, without a user, without `..` and without empty names",
    };
}

impl Url {
    /// Reads one; none if it is no URL of such a service, or if somebody else could read it in another way.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (_, default) = PORTS.into_iter().find(|(known, _)| *known == scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        // Who the user is does not say which service it is, and could look as if it did.
        if authority.contains('@') {
            return None;
        }
        let host = host_of(authority)?;
        let port = match authority.rsplit_once(']') {
            // Nothing is behind an address but a port.
            Some((_, "")) => None,
            Some((_, behind)) => Some(behind.strip_prefix(':')?),
            None => authority.split_once(':').map(|(_, port)| port),
        };
        let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|_| is_number(port)))?;
        let path = behind.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() { "/" } else { path };
        is_plain_path(path).then(|| Self { scheme, host, port, path: path.to_owned() })
    }

    /// Reads one for a rule, which is about all that is below it.
    ///
    /// # Errors
    /// It is none, or has what says nothing of which service it is.
    pub fn parse_pattern(text: &str) -> Result<Self, UrlError> {
        let error = |message, help| Err(UrlError { message, help });
        if text.contains('*') {
            return error(
                "has a `*`, which stands for itself",
                "leave it out: an address is that of all that is below it",
            );
        }
        if text.contains(['?', '#']) {
            return error(
                "has what is behind a `?` or a `#`, by which no service is told",
                "end it before that",
            );
        }
        Self::parse(text).ok_or(UrlError::OTHER)
    }

    /// Whether another one is this one, or below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let rest = other.path.strip_prefix(self.path.trim_end_matches('/'));
        let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (&self.scheme, &self.host, self.port) == (&other.scheme, &other.host, other.port) && is_below
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{}://{host}", self.scheme)?;
        if !PORTS.contains(&(self.scheme.as_str(), self.port)) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

/// Whether a path leads where it says, to all who read it. `..` leads elsewhere, and so does what stands for it or for a `/`; what is
/// behind a `;` is left out by some, and an empty name by others.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    let names = path.strip_prefix('/').unwrap_or(path);
    let goes_elsewhere = |name: &str| matches!(name.split(';').next(), Some("." | ".."));
    let has_empty =
        names.strip_suffix('/').unwrap_or(names).split('/').any(str::is_empty) && !names.is_empty();
    path.bytes().all(is_plain) && !has_empty && !names.split('/').any(goes_elsewhere)
}

/// The host of `user@host:port`, in lower case; none if it is not certain which it is. Letters beyond ASCII stand for others, `0x7f.1`
/// and `2130706433` are addresses, and a `\` is a `/` to some.
#[must_use]
pub fn host_of(authority: &str) -> Option<String> {
    if authority.contains(|c: char| c == '\\' || !c.is_ascii_graphic()) {
        return None;
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']')?.0.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let host = host.split(':').next().unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let is_number = host.rsplit('.').next()?.starts_with(|c: char| c.is_ascii_digit());
    let is_certain = if is_number { host.parse::<Ipv4Addr>().is_ok() } else { host.split('.').all(is_name) };
    is_certain.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(host_of(text).as_deref(), expect, "{text}");
        check("Example.COM:80", Some("example.com"));
        check("u:p@example.com.", Some("example.com"));
        check("a@b@example.com", Some("example.com"));
        check("[0:0::1]:443", Some("::1"));
        check("git@github.com:a/b", Some("github.com"));
        check("127.0.0.1:80", Some("127.0.0.1"));
        for unclear in [
            "[::1",
            "",
            "a..b",
            "a\\b",
            "a.example\\@b.example",
            "0x7f.1",
            "2130706433",
            "\u{ff45}x.com",
            "a b",
            "%61.com",
        ] {
            check(unclear, None);
        }
    }

    #[test]
    fn urls() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Url::parse(text).map(|url| url.to_string()).as_deref(), expect, "{text}");
        };
        check("HTTPS://Mcp.Example.com:443", Some("https://mcp.example.com/"));
        check("http://[::1]:8080/a/b?c#d", Some("http://[::1]:8080/a/b"));
        for wrong in [
            "x",
            "ftp://a/",
            "https://",
            "https://u@a/",
            "https://a:x/",
            "https://a:99999/",
            "https://a/../b",
            "https://a/%2e%2e/b",
            "https://a/b c",
            "https://a/..;x/b",
            "https://a/b/.;",
            "https://a//b",
            "https://a/b//",
            "https://a//",
            "https://[::1]x/",
            "https://[::1]x:1/",
            "https://[::1]:/",
            "https://[::1]:+1/",
            "https://a:/",
        ] {
            check(wrong, None);
        }
        check("https://[::1]/;/x;..", Some("https://[::1]/;/x;.."));
        check("https://a/b/", Some("https://a/b/"));
        check("https://a/...;", Some("https://a/...;"));
    }

    #[test]
    fn patterns() {
        let check = |text: &str, words: &str| {
            let error = Url::parse_pattern(text).expect_err(text);
            assert!(format!("{}; {}", error.message, error.help).contains(words), "{text}: {error:?}");
        };
        check("https://a/*", "all that is below it");
        check("https://*.a/", "all that is below it");
        check("https://a/?x=y", "behind a `?`");
        check("https://a#b", "behind a `?` or a `#`");
        check("https://a//b", "empty names");
        check("a", "is no URL");
        assert!(Url::parse_pattern("https://a/b").is_ok());
    }

    #[test]
    fn what_is_below() {
        let check = |prefix: &str, text: &str, expect: bool| {
            let [prefix, url] = [prefix, text].map(|text| Url::parse(text).expect("a URL"));
            assert_eq!(prefix.covers(&url), expect, "{prefix} {url}");
        };
        check("https://a/", "https://a/x", true);
        check("https://a/x", "https://a/x", true);
        check("https://a/x/", "https://a/x", true);
        check("https://a/x", "https://a/x/y?z", true);
        check("https://a/x", "https://a/xy", false);
        check("https://a/x", "https://a/", false);
        check("https://a/", "http://a/", false);
        check("https://a/", "https://a:8443/", false);
        check("https://a/", "https://b.a/", false);
    }
}

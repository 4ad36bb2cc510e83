//! What is done, in words.

use std::fmt;

use treeline_event::PathBytes;

use crate::request::Object;

/// An object in words, such as `read /etc/shadow`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path: &[u8]| PathBytes::from(path);
        match self {
            Self::File { path, operation } => write!(f, "{} {}", operation.name(), text(path)),
            Self::Exec { path, .. } => write!(f, "exec {}", text(path)),
            Self::Connect { address, port } => {
                write!(f, "connect {}", std::net::SocketAddr::new(*address, *port))
            }
            Self::ConnectUnix { path } => write!(f, "connect unix {}", text(path)),
            Self::ConnectAbstract { name } => write!(f, "connect unix @{}", text(name)),
            Self::RawSocket => f.write_str("open a raw socket"),
            Self::Trace => f.write_str("trace a process outside of the session"),
        }
    }
}

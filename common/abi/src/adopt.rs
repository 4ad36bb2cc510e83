//! Adoption: what the kernel programs remember of a session's work that leaves its tree, until a process outside takes
//! it up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The port of the connections that are followed, the one that rules about the broker `ssh` name.
pub const PORT: u16 = 22;

/// Connections of sessions that are being made or wait to be accepted. A session that opens more at once, each to a
/// server that does not accept, has its further ones refused.
pub const CONNECTIONS_MAX: u32 = 4096;

/// Tasks that have accepted such a connection and have not forked yet: listeners of this machine.
pub const NOTES_MAX: u32 = 1024;

/// Jobs that wait. A job beyond that is refused when it is written.
pub const JOBS_MAX: u32 = 4096;

/// Both ends of a TCP connection, as one of them sees them. Addresses of IPv4 are mapped ones (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ends {
    /// The network namespace, by its address in the kernel.
    pub net: u64,
    /// The client's address.
    pub client: [u32; 4],
    /// The server's address.
    pub server: [u32; 4],
    /// The client's port, host byte order.
    pub client_port: u32,
    /// The server's port, host byte order.
    pub server_port: u32,
}

/// A connection that belongs to a session, by [`Ends`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connection {
    /// [`crate::Label::session`].
    pub session: u64,
    /// 1 once the server's end is there: then it is that end which takes the entry away.
    pub reached: u64,
}

/// What the next process that a task creates will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Note {
    /// [`crate::Label::session`].
    pub session: u64,
    /// The accepted socket, by its address in the kernel.
    pub sock: u64,
    /// The client's address, as in [`Ends`].
    pub client: [u32; 4],
    /// The client's port.
    pub client_port: u32,
    /// Explicit padding.
    pub pad: u32,
}

/// A file, as long as it has a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct JobKey {
    /// Inode number.
    pub inode: u64,
    /// `s_dev` of the superblock.
    pub device: u32,
    /// `i_generation`.
    pub generation: u32,
}

const _: () = assert!(size_of::<Ends>() == 48);
const _: () = assert!(size_of::<Connection>() == 16);
const _: () = assert!(size_of::<Note>() == 40);
const _: () = assert!(size_of::<JobKey>() == 16);

//! What of an entry's action somebody can approve of: something that was refused, and that can be told from everything else.

use std::net::SocketAddr;

use treeline_abi::paths::Operation;
use treeline_event::{Action, Destination, FileId, FileRef, OpenFlags, PathBytes, Process};

use crate::{policy::FileOperation, request::Object};

/// What an approval of an action would be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvable {
    /// What the policy is asked, one question for each operation.
    pub objects: Vec<Object>,
    /// Bits over [`Operation`].
    pub operations: u32,
    /// What it is done to.
    pub thing: Thing,
}

/// An object that can be told from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A file that was there, by its own path.
    File(PathBytes, FileId),
    /// A unix socket, by its own path.
    Socket(PathBytes),
    /// A name that was to be created.
    Name(PathBytes),
    /// An address and a port.
    Address(SocketAddr),
    /// The abstract name of a unix socket.
    Abstract(PathBytes),
}

/// Why nobody can approve of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotApprovable(&'static str);

/// What somebody can approve of, of what a process was refused.
///
/// # Errors
/// Why not.
pub fn approvable(process: &Process, action: &Action) -> Result<Approvable, NotApprovable> {
    let image = &process.program.image;
    if process.program.loader_env {
        return Err(NotApprovable("its environment puts other code into the program"));
    }
    if !image.path.as_bytes().starts_with(b"/") || image.unlinked || image.file.inode == 0 {
        return Err(NotApprovable("which program did it is not known"));
    }
    match action {
        Action::Open { file, flags, .. } | Action::Receive { file, flags, .. } => opened(file, *flags),
        Action::Modify { file, .. } => of_file(file, &[FileOperation::Write]),
        Action::Delete { file, .. } => of_file(file, &[FileOperation::Delete]),
        Action::Create { target: Some(_), .. } => {
            Err(NotApprovable("a symbolic link leads to another object"))
        }
        Action::Create { file, target: None, .. } => created(file),
        Action::ExecDenied { file } | Action::Map { file, .. } => executed(file),
        Action::Connect { to, .. } => connected(to),
        Action::Rename { .. } | Action::Link { .. } => Err(NotApprovable(
            "renames and links have two names; approve of creating, writing and deleting instead",
        )),
        Action::Mount { .. } => Err(NotApprovable("a mount hides more than one object")),
        Action::Trace { .. } => Err(NotApprovable("a process is no object that stays")),
        Action::Tamper { .. } => Err(NotApprovable("it was aimed at the sensor")),
        Action::Fork { .. } | Action::Exec | Action::Exit { .. } | Action::Adopt { .. } => {
            Err(NotApprovable("nothing was refused"))
        }
    }
}

fn opened(file: &FileRef, flags: OpenFlags) -> Result<Approvable, NotApprovable> {
    let asked = [(flags.reads(), FileOperation::Read), (flags.writes(), FileOperation::Write)];
    let operations: Vec<FileOperation> =
        asked.into_iter().filter_map(|(is, operation)| is.then_some(operation)).collect();
    of_file(file, &operations)
}

fn of_file(file: &FileRef, operations: &[FileOperation]) -> Result<Approvable, NotApprovable> {
    let path = own_path(file)?;
    let id = file.id.ok_or(NotApprovable("which file it was is not known"))?;
    if operations.is_empty() {
        return Err(NotApprovable("what was asked for is not known"));
    }
    let bits = operations.iter().fold(0, |bits, operation| bits | 1 << *operation as u32);
    let object =
        |operation: &FileOperation| Object::File { path: path.as_bytes().to_vec(), operation: *operation };
    let objects = operations.iter().map(object).collect();
    Ok(Approvable { objects, operations: bits, thing: Thing::File(path.clone(), id) })
}

fn created(file: &FileRef) -> Result<Approvable, NotApprovable> {
    let path = own_path(file)?;
    let object = Object::File { path: path.as_bytes().to_vec(), operation: FileOperation::Create };
    Ok(Approvable {
        objects: vec![object],
        operations: 1 << Operation::CREATE,
        thing: Thing::Name(path.clone()),
    })
}

fn executed(file: &FileRef) -> Result<Approvable, NotApprovable> {
    let path = own_path(file)?;
    let id = file.id.ok_or(NotApprovable("which file it was is not known"))?;
    let object = Object::Exec { path: path.as_bytes().to_vec(), sha256: None };
    Ok(Approvable {
        objects: vec![object],
        operations: 1 << Operation::EXEC,
        thing: Thing::File(path.clone(), id),
    })
}

fn connected(to: &Destination) -> Result<Approvable, NotApprovable> {
    let (object, thing) = match to {
        Destination::V4(address, port) => address_of(SocketAddr::from((*address, *port))),
        Destination::V6(address, port) => address_of(SocketAddr::from((*address, *port))),
        Destination::Unix(path) if path.as_bytes().starts_with(b"/") => {
            (Object::ConnectUnix { path: path.as_bytes().to_vec() }, Thing::Socket(path.clone()))
        }
        Destination::Abstract(name) => {
            (Object::ConnectAbstract { name: name.as_bytes().to_vec() }, Thing::Abstract(name.clone()))
        }
        Destination::Unix(_) => return Err(NotApprovable("which socket it was is not known")),
        Destination::Socket(_) => return Err(NotApprovable("where such a socket leads cannot be looked at")),
    };
    Ok(Approvable { objects: vec![object], operations: 1 << Operation::CONNECT, thing })
}

fn address_of(address: SocketAddr) -> (Object, Thing) {
    (Object::Connect { address: address.ip(), port: address.port() }, Thing::Address(address))
}

fn own_path(file: &FileRef) -> Result<&PathBytes, NotApprovable> {
    let FileRef { path, as_named, unresolved, unlinked, content_unknown, .. } = file;
    if *content_unknown {
        return Err(NotApprovable("nobody knew what the file holds; try again"));
    }
    // Without `/` it has no directory, or is on a filesystem that is not mounted here.
    if *as_named || *unresolved || *unlinked || !path.as_bytes().starts_with(b"/") {
        return Err(NotApprovable("the file's own path is not known"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use treeline_event::{Image, Outcome, Program, SocketKind};

    use super::*;

    fn process() -> Process {
        let file = FileId { inode: 9, ..FileId::default() };
        let image = Image { path: "/usr/bin/cat".into(), file, ..Image::default() };
        Process { program: Arc::new(Program { image, ..Program::default() }), ..Process::default() }
    }

    fn file() -> FileRef {
        FileRef {
            path: "/a".into(),
            id: Some(FileId { inode: 7, ..FileId::default() }),
            ..FileRef::default()
        }
    }

    const OUTCOME: Outcome = Outcome::Errno(1);

    #[track_caller]
    fn check(action: &Action, expect: &[&str]) {
        let found = approvable(&process(), action);
        let words: Vec<String> = match &found {
            Ok(found) => found.objects.iter().map(ToString::to_string).collect(),
            Err(error) => vec![format!("not: {error}")],
        };
        assert!(
            words.len() == expect.len()
                && words.iter().zip(expect).all(|(word, expect)| word.starts_with(expect)),
            "{words:?}"
        );
    }

    #[test]
    fn what_can_be_approved_of() {
        let open = |flags| Action::Open { file: file(), flags: OpenFlags(flags), outcome: OUTCOME, count: 1 };
        check(&open(0), &["read /a"]);
        check(&open(1), &["write /a"]);
        check(&open(2), &["read /a", "write /a"]);
        check(&open(0o10_000_000), &["not: what was asked for"]);
        check(&Action::Modify { file: file(), outcome: OUTCOME }, &["write /a"]);
        check(&Action::Delete { file: file(), outcome: OUTCOME }, &["delete /a"]);
        let new = FileRef { id: None, ..file() };
        check(&Action::Create { file: new.clone(), target: None, outcome: OUTCOME }, &["create /a"]);
        check(&Action::Delete { file: new, outcome: OUTCOME }, &["not: which file"]);
        check(&Action::ExecDenied { file: file() }, &["exec /a"]);
        check(&Action::Map { file: file(), outcome: OUTCOME }, &["exec /a"]);
        let to = |to| Action::Connect { to, outcome: OUTCOME };
        check(&to(Destination::V4([10, 0, 0, 1].into(), 443)), &["connect 10.0.0.1:443"]);
        check(&to(Destination::V6([0; 16].into(), 1)), &["connect [::]:1"]);
        check(&to(Destination::Unix("/run/x".into())), &["unix /run/x"]);
        check(&to(Destination::Abstract("x".into())), &["unix @x"]);
    }

    #[test]
    fn what_cannot() {
        let outcome = OUTCOME;
        check(&Action::Rename { from: file(), to: file(), outcome }, &["not: renames and links"]);
        check(&Action::Link { from: file(), to: file(), outcome }, &["not: renames and links"]);
        check(&Action::Mount { at: file(), source: "x".into(), outcome }, &["not: a mount"]);
        let target = treeline_event::ProcessKey::default();
        check(&Action::Trace { target, mode: 1, outcome }, &["not: a process"]);
        check(&Action::Exec, &["not: nothing was refused"]);
        let kind = SocketKind { family: 17, kind: 3, protocol: 0 };
        check(&Action::Connect { to: Destination::Socket(kind), outcome }, &["not: where such"]);
        check(
            &Action::Connect { to: Destination::Unix(PathBytes::default()), outcome },
            &["not: which socket"],
        );
        for file in [
            FileRef { as_named: true, ..file() },
            FileRef { unresolved: true, ..file() },
            FileRef { unlinked: true, ..file() },
            FileRef { path: "memfd:x".into(), ..file() },
            FileRef { path: "[8:1]/x".into(), ..file() },
        ] {
            check(&Action::Delete { file, outcome }, &["not: the file's own path"]);
        }
        let file = FileRef { content_unknown: true, ..file() };
        check(&Action::ExecDenied { file }, &["not: nobody knew"]);
    }

    #[test]
    fn by_whom() {
        let open = Action::Open { file: file(), flags: OpenFlags(0), outcome: OUTCOME, count: 1 };
        let with = |change: fn(&mut Program)| {
            let mut process = process();
            change(Arc::make_mut(&mut process.program));
            approvable(&process, &open).map_err(|error| error.to_string())
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|program| program.loader_env = true).is_err());
        assert!(with(|program| program.image.unlinked = true).is_err());
        assert!(with(|program| program.image.path = "memfd:x".into()).is_err());
        assert!(with(|program| program.image.file.inode = 0).is_err());
    }
}

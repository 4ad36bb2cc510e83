//! Descriptors that come from another process: by a unix socket (`SCM_RIGHTS`), by `pidfd_getfd`, by a seccomp
//! supervisor. No open was judged for the one who gets them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use treeline_abi::Kind;

use super::{
    REFUSED, answer,
    files::{self, S_IFMT, S_IFREG},
    scratch_or_refuse,
};
use crate::{
    decide, emit,
    kernel::{inode, offset, read, short_name, words},
    lifecycle::subject,
    tasks,
};

const S_IFDIR: u32 = 0o040_000;

/// Whether it is an io_uring: whoever has it reads and writes the files that somebody else has registered with it, and no
/// hook is asked. Its dentry has no directory, as no file's of that name.
#[inline(always)]
fn is_ring(dentry: u64) -> bool {
    let has_directory = read::<u64>(dentry + offset!(dentry_parent)) != dentry;
    !has_directory && short_name(dentry) == words(b"[io_uring]\0\0\0\0\0\0")
}

/// A refused descriptor is not put into the table; of several in one message, those before it are.
/// `security_file_receive` has the same argument.
#[lsm(hook = "file_receive")]
pub(crate) fn file_receive(ctx: LsmContext) -> i32 {
    let earlier: i32 = ctx.arg(1);
    if earlier != 0 {
        return earlier;
    }
    let file: u64 = ctx.arg(0);
    let Some(label) = tasks::current_label() else {
        return 0;
    };
    let scratch = match scratch_or_refuse(Kind::Receive, label) {
        Ok(scratch) => scratch,
        Err(result) => return result,
    };
    emit::begin(scratch, Kind::Receive, label.session, &subject());
    let dentry = files::dentry_of(file);
    let mut decision = decide::judge_dentry(scratch, dentry, files::operations_of(file), label);
    if is_ring(dentry) {
        let rule = decide::active().map_or(0, |active| active.table.foreign_ring);
        decision = decision.or(decide::undecidable_by(rule));
    }
    let object = inode(read(file + offset!(file_inode)));
    let has_content = matches!(object.mode & S_IFMT, S_IFREG | S_IFDIR);
    // Sockets and pipes go to and fro by the thousand and are judged when they are made.
    if has_content || !decision.is_allow() {
        emit::decided(&mut scratch.header, decision);
        emit::object(&mut scratch.header, &object);
        scratch.header.detail = read(file + offset!(file_flags));
        scratch.header.result = if decision.is_deny() { REFUSED } else { 0 };
        let position = emit::append_walked(scratch, 0, 0);
        emit::send(scratch, Kind::Receive, position);
    }
    scratch.release();
    answer(decision)
}

//! Whether denies outlive the daemon here, and whether some have.

use std::path::Path;

use super::check;
use crate::{
    backend::linux::{Check, CheckState, pins},
    config::Config,
};

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPFFS_MAGIC: u64 = 0xcafe_4a11;

/// Looks at where the daemon pins. `is_running` says whether one answers.
pub(super) fn look(config: &Config, is_running: bool) -> Check {
    let Some(root) = config.pins(&config.state_dir) else {
        let advice = Some("set `pin_dir`, if this daemon is the machine's one daemon".to_owned());
        let found = "nothing is pinned with this configuration: denies end with the daemon";
        return check("pins", CheckState::Note, found, advice);
    };
    if !is_bpffs(&root) {
        let found = format!("`{}` is not on a bpffs: denies end with the daemon", root.display());
        let advice = Some("`mount -t bpf bpf /sys/fs/bpf`, then restart the daemon".to_owned());
        return check("pins", CheckState::Bad, found, advice);
    }
    let sets = pins::sets(&root).len();
    if sets > 0 && !is_running {
        let found =
            format!("what a daemon has left in `{}` is in force, and nobody reads it", root.display());
        let advice = "`systemctl start treeline` goes on with it; `treeline daemon --detach-all` removes it"
            .to_owned();
        return check("pins", CheckState::Bad, found, Some(advice));
    }
    check("pins", CheckState::Ok, format!("`{}`: denies outlive the daemon", root.display()), None)
}

/// Whether a path, or the nearest directory above it that is there, is on a bpffs.
fn is_bpffs(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    found.is_some_and(|found| found.f_type as u64 == BPFFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bpffs_pins_nothing() {
        let look = |pin_dir: Option<&str>| {
            look(&Config { pin_dir: pin_dir.map(Into::into), ..Config::default() }, false)
        };
        let found = look(Some("/nonexistent/pins"));
        assert_eq!(found.state, CheckState::Bad, "{}", found.found);
        assert!(found.advice.is_some_and(|advice| advice.contains("mount -t bpf")));
        assert_eq!(look(Some("")).state, CheckState::Note);
    }
}

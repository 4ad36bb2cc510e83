//! Small ext4 filesystems for guests to mount. They are made where guests are put together, so that a guest needs no
//! program for it.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::tool;

/// An archive has no holes, and a guest has all of it in memory.
const SIZE_BYTES: u64 = 1 << 20;
/// Files that the suite makes, with room to spare: each takes a kilobyte, and as much for what nobody needs.
const INODE_COUNT: &str = "192";
/// Named one by one, since defaults differ between releases of e2fsprogs and old kernels do not know new features. No
/// journal: a guest's filesystem is thrown away whatever happens.
const FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,sparse_super,large_file,extra_isize";

struct Image {
    /// Where it is in the guest.
    path: &'static str,
    more_features: &'static str,
    options: &'static [&'static str],
}

const IMAGES: &[Image] = &[
    Image { path: "/filesystems/plain.ext4", more_features: "", options: &[] },
    // A filesystem of its own: a kernel without the table of letters mounts none that has the feature.
    Image {
        path: "/filesystems/folding.ext4",
        more_features: ",casefold",
        options: &["-E", "encoding=utf8"],
    },
];

/// Makes them all and writes them into `archive`.
pub(super) fn write(archive: &mut Archive) -> Result<()> {
    let scratch = tempfile::tempdir().context("creating a directory for filesystems")?;
    let draft = scratch.path().join("image");
    for image in IMAGES {
        let file = File::create(&draft).with_context(|| format!("creating {}", draft.display()))?;
        file.set_len(SIZE_BYTES).with_context(|| format!("sizing {}", draft.display()))?;
        drop(file);
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-b", "1024", "-I", "256", "-m", "0", "-N", INODE_COUNT, "-O"]);
        mkfs.arg(format!("{FEATURES}{}", image.more_features)).args(image.options).arg(&draft);
        tool::output(&mut mkfs).with_context(|| format!("making {}", image.path))?;
        let content = fs::read(&draft).with_context(|| format!("reading {}", draft.display()))?;
        archive.file(image.path, 0o600, &content);
    }
    scratch.close().context("removing the directory for filesystems")
}

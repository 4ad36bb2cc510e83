//! auditd of Debian, for guests that measure beside it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::debs::Debs;

const PACKAGES: &[&str] = &["auditd", "libauparse0", "libwrap0", "libnsl2", "libtirpc3"];

/// An archive with auditd, auditctl, their libraries and the configuration that Debian ships.
pub(super) fn archive(cache: &Path, modified_s: u32) -> Result<Vec<u8>> {
    let debs = Debs::open(cache, "audit", PACKAGES, &[])?;
    let mut archive = Archive::new(modified_s);
    for program in ["auditd", "auditctl"] {
        debs.add_program(&mut archive, &format!("sbin/{program}"), &format!("/usr/sbin/{program}"))?;
    }
    let configuration =
        fs::read(debs.path("etc/audit/auditd.conf")).context("reading auditd's configuration")?;
    archive.file("/etc/audit/auditd.conf", 0o640, &configuration);
    archive.directory("/etc/audit/plugins.d");
    Ok(archive.finish())
}

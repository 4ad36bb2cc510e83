//! Distribution guests: Debian with systemd as PID 1 and with what runs programs for others, on a disk of its own.
//!
//! The disk is the same for every kernel and for every build of the sensor: what is under test comes with the initramfs,
//! and is put onto a snapshot of the disk when the guest boots.

mod disk;
mod payload;

pub(super) use disk::{Disk, obstacle};
pub(super) use payload::archive;

/// Modules beyond a cloud kernel's built-in code: of the disk and the bus that it is on (built in since Debian's 6.12), of
/// systemd's automounts, and of podman's images.
pub(super) const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "autofs4", "overlay"];

/// Containers and two managers of systemd beside the sensor.
pub(super) const MEMORY_MB: u32 = 1536;

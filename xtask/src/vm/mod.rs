//! `cargo xtask vm`: boots Debian's kernels in QEMU with our own PID 1 and runs the behavioural suite in each.

mod accelerator;
mod apt;
mod audit;
mod bzimage;
mod catalogue;
pub(crate) mod cost;
mod cpio;
mod crew;
mod debs;
mod distribution;
mod filesystems;
mod guest;
mod hook_cost;
mod initramfs;
mod kernel;
mod machine;
mod matrix;
mod mode;
mod programs;
mod report;
mod run;
pub(crate) mod soak;
mod tool;
mod verifier_cost;
mod yardstick;

pub(crate) use run::{Args, run};

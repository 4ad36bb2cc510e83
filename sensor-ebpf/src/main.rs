//! The kernel programs of Treeline: what is seen and refused, for tasks that carry a label and for no others.
//!
//! Built for `bpfel-unknown-none` into one object that serves every kernel from 5.10 on: structure offsets are
//! injected by the agent (see `treeline_abi::config`), and the agent loads only the programs that its attach mode
//! uses.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod address;
mod adopt;
mod ancestors;
mod cgroup;
mod content;
mod decide;
mod emit;
mod grants;
mod kernel;
mod lifecycle;
mod lifts;
mod lineage;
mod log;
mod lsm;
mod maps;
mod parity;
mod scratch;
mod syscalls;
mod tasks;
mod walk;

/// `bpf_lsm`, tracing programs and most helpers ask for a licence that is compatible with the GPL.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A panic cannot be compiled in: the verifier refuses a program that could reach this loop.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

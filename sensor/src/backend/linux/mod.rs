//! The Linux backend: kernel programs loaded with aya, and fanotify where they cannot refuse.

mod hooks;
mod load;
mod mounts;
mod offsets;
mod sys;

/// Loads everything for one mode and prints what became of it.
pub fn probe(object: &[u8], mode: treeline_event::AttachMode) {
    let offsets = offsets::resolve(offsets::BTF_PATH).expect("offsets");
    let mut ebpf = load::load(object, &offsets, &treeline_abi::Settings::UNSET).expect("load");
    let btf = aya::Btf::from_sys_fs().expect("btf");
    for hook in hooks::of(mode) {
        let status = load::attach(&mut ebpf, &hook, &btf);
        println!("{} {:?}", status.hook, status.state);
        if let Some(program) = ebpf.program(hook.program) {
            if let Ok(info) = program.info() {
                println!(
                    "   verified {:?} size {}",
                    info.verified_instruction_count(),
                    info.size_translated().unwrap_or(0)
                );
            }
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
}

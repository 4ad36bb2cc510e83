//! The `treeline` binary.
fn main() {
    let o = std::fs::read("target/bpf/treeline.bpf.o").unwrap();
    treeline::backend::linux::probe(&o, treeline_event::AttachMode::Fallback);
}

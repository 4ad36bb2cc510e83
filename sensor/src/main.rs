//! The `treeline` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    treeline::cli::main()
}

//! The `treeline` binary.

fn main() -> std::process::ExitCode {
    treeline::cli::main()
}

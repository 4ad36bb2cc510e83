//! `treeline doctor`.
use super::Globals;
use anyhow::Result;
use std::process::ExitCode;
/// Arguments of `treeline doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
pub fn run(_args: &Args, _g: &Globals) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

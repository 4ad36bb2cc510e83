//! `treeline status`.
use std::process::ExitCode;
use anyhow::Result;
use super::Globals;
/// Arguments of `treeline status`.
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
pub fn run(_args: &Args, _g: &Globals) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }

//! `cargo xtask setup`: what the checkout needs and the machine lacks. Quick when nothing is missing.

mod apt;
mod packages;
mod probe;
pub(crate) mod tools;
mod venv;

use std::fs::{self, File};

use anyhow::{Context, Result};

use crate::{checkout::Checkout, outcome::Outcome, toolchain::Toolchain};

use self::{packages::Package, tools::Tool};

/// Arguments of `setup`.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Only report what is there and what is missing; status 1 when something is.
    #[arg(long)]
    check: bool,
}

/// One thing that the project needs from outside.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Programs and files that Debian packages bring.
    Package(&'static Package),
    /// A compiler that can build `core` for BPF.
    KernelCompiler,
    /// A program built from crates.
    Tool(&'static Tool),
    /// The Python environment of the tests.
    Venv,
}

/// Installs what is missing, or reports it.
pub(crate) fn run(checkout: &Checkout, arguments: &Arguments) -> Result<Outcome> {
    if arguments.check {
        return Ok(report(checkout));
    }
    install_everything(checkout)?;
    println!("setup: nothing is missing");
    Ok(Outcome::Clean)
}

/// All of setup, silent when nothing is missing.
pub(crate) fn install_everything(checkout: &Checkout) -> Result<()> {
    install(checkout, &everything())
}

/// The part of setup that the demo needs beside a built binary.
pub(crate) fn packages(checkout: &Checkout) -> Result<()> {
    install(checkout, &packages::ALL.iter().map(Need::Package).collect::<Vec<_>>())
}

/// The part of setup that `deny` needs.
pub(crate) fn cargo_deny(checkout: &Checkout) -> Result<()> {
    install(checkout, &[Need::Tool(&tools::CARGO_DENY)])
}

/// The part of setup that the fuzz targets need.
pub(crate) fn cpp_compiler(checkout: &Checkout) -> Result<()> {
    install(checkout, &[Need::Package(&packages::CPP_COMPILER)])
}

/// Whether that is there.
pub(crate) fn has_cpp_compiler() -> bool {
    packages::CPP_COMPILER.is_there()
}

/// The part of setup that the kernel programs need, silent when it is there.
pub(crate) fn bpf_toolchain(checkout: &Checkout) -> Result<()> {
    let compiler = packages::ALL.iter().filter(|package| package.is_for_building()).map(Need::Package);
    let needs: Vec<Need> = compiler.chain([Need::KernelCompiler, Need::Tool(&tools::BPF_LINKER)]).collect();
    install(checkout, &needs)
}

fn everything() -> Vec<Need> {
    let packages = packages::ALL.iter().map(Need::Package);
    let rest =
        [Need::KernelCompiler, Need::Tool(&tools::BPF_LINKER), Need::Tool(&tools::CARGO_DENY), Need::Venv];
    packages.chain(rest).collect()
}

/// Installs those of `needs` that are missing: packages in one go and first, since the rest is built with them.
fn install(checkout: &Checkout, needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_met(checkout)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _alone = lock(checkout)?;
    let wanted: Vec<&str> = missing.iter().flat_map(Need::debian_packages).copied().collect();
    if !wanted.is_empty() {
        apt::install(checkout, &wanted)?;
    }
    for need in &missing {
        match need {
            Need::Tool(tool) if !need.is_met(checkout) => tool.install(checkout)?,
            Need::Venv if !need.is_met(checkout) => venv::install(checkout)?,
            _ => {}
        }
    }
    let still: Vec<String> = missing
        .iter()
        .filter(|need| !need.is_met(checkout))
        .map(|need| format!("\n  {}", need.advice()))
        .collect();
    anyhow::ensure!(still.is_empty(), "installed, and yet these are not found:{}", still.concat());
    Ok(())
}

/// Two setups at once would build the same tool twice and fight over one environment.
fn lock(checkout: &Checkout) -> Result<File> {
    let folder = checkout.root().join(".cache");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let path = folder.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
    if file.try_lock().is_err() {
        println!("==> waiting for another `cargo xtask setup` of this checkout");
        file.lock().with_context(|| format!("cannot lock `{}`", path.display()))?;
    }
    Ok(file)
}

fn report(checkout: &Checkout) -> Outcome {
    let mut missing_count = 0;
    for need in everything() {
        if need.is_met(checkout) {
            println!("ok       {}", need.name());
        } else {
            missing_count += 1;
            println!("missing  {}", need.advice());
        }
    }
    if missing_count > 0 {
        println!("{missing_count} missing: `cargo xtask setup` installs them");
    }
    Outcome::from_count(missing_count)
}

impl Need {
    fn is_met(&self, checkout: &Checkout) -> bool {
        match self {
            Self::Package(package) => package.is_there(),
            Self::KernelCompiler => Toolchain::find().is_some(),
            Self::Tool(tool) => tool.find(checkout).is_some(),
            Self::Venv => venv::is_there(checkout),
        }
    }

    /// The Debian packages that meet it, if packages do.
    fn debian_packages(&self) -> &'static [&'static str] {
        match self {
            Self::Package(package) => package.names,
            Self::KernelCompiler => packages::KERNEL_COMPILER,
            Self::Tool(_) | Self::Venv => &[],
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Package(package) => package.names.join(" "),
            Self::KernelCompiler => match Toolchain::find() {
                Some(toolchain) => format!("a compiler for kernel programs: {}", toolchain.version()),
                None => "a compiler for kernel programs".to_owned(),
            },
            Self::Tool(tool) => format!("{} {}", tool.name, tool.version),
            Self::Venv => format!("Python environment with {}", venv::REQUIREMENTS.join(" ")),
        }
    }

    /// Its name, what it is for, and what to do on a machine that setup cannot change.
    fn advice(&self) -> String {
        let name = self.name();
        match self {
            Self::Package(package) => format!("{name}: {} ({})", package.probe, package.why),
            Self::KernelCompiler => format!(
                "{name}: `rustup toolchain install nightly --component rust-src`, or Debian's {}",
                packages::KERNEL_COMPILER.join(" ")
            ),
            Self::Tool(tool) => format!("{name}: `{}` ({})", tool.command_line(), tool.why),
            Self::Venv => {
                format!("{name}: in `.cache/venv` (validates log entries against the published schema)")
            }
        }
    }
}

/// Describes needs for an error message, one line each.
fn advice_of_packages(names: &[&str]) -> String {
    everything()
        .iter()
        .filter(|need| need.debian_packages().iter().any(|name| names.contains(name)))
        .map(|need| format!("\n  {}", need.advice()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_what_it_is_and_what_to_do() {
        for need in everything() {
            assert!(need.advice().len() > need.name().len(), "{need:?}");
        }
    }

    #[test]
    fn packages_are_listed_once() {
        let mut names: Vec<&str> = everything().iter().flat_map(Need::debian_packages).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

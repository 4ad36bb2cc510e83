//! `treeline man`.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

/// Arguments of `treeline man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one page per verb to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the main page, or writes all pages.
///
/// # Errors
/// A page cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.out {
        Some(dir) => write_pages(dir)?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::command()).render(&mut page)?;
            io::stdout().write_all(&page).context("cannot write to standard output")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    clap_mangen::generate_to(super::command(), dir)
        .with_context(|| format!("cannot write to `{}`", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_verbs_have_no_page() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_pages(dir.path()).expect("pages are written");
        let pages: Vec<String> = fs::read_dir(dir.path())
            .expect("the directory is there")
            .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
            .collect();
        assert!(pages.iter().any(|page| page == "treeline-run.1"), "{pages:?}");
        assert!(!pages.iter().any(|page| page.contains("__")), "{pages:?}");
    }
}

//! Which crate may depend on which.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::finding::Finding;
use crate::{build::cargo, checkout::Checkout};

/// A crate of ours and all that it may depend on.
#[derive(Debug)]
struct Layer {
    package: &'static str,
    /// Of our own crates.
    ours: &'static [&'static str],
    /// Of others; `None` is any.
    theirs: Option<&'static [&'static str]>,
    why: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        package: "treeline-abi",
        ours: &[],
        theirs: Some(&["zerocopy"]),
        why: "the kernel programs are built from it",
    },
    Layer {
        package: "treeline-event",
        ours: &[],
        theirs: None,
        why: "entries live for years, the abi changes with every build",
    },
    Layer { package: "treeline-tlog", ours: &[], theirs: None, why: "it is about bytes, whatever they say" },
    Layer {
        package: "treeline-policy",
        ours: &["treeline-abi", "treeline-event"],
        theirs: None,
        why: "policy is evaluated on events and compiled to kernel tables",
    },
    Layer {
        package: "treeline-shell",
        ours: &["treeline-abi", "treeline-policy"],
        theirs: None,
        why: "it says what a command does, in the words of the policy",
    },
    Layer {
        package: "treeline",
        ours: &[
            "treeline-abi",
            "treeline-event",
            "treeline-policy",
            "treeline-shell",
            "treeline-tlog",
            "treeline-macos",
        ],
        theirs: None,
        why: "the sensor stands on common/ alone",
    },
    Layer {
        package: "treeline-ebpf",
        ours: &["treeline-abi"],
        theirs: None,
        why: "kernel programs share only the abi",
    },
];
/// Crates that one of ours alone may depend on.
const RESERVED: &[(&str, &str)] =
    &[("aya", "treeline"), ("brush-parser", "treeline-shell"), ("btf-rs", "treeline")];

/// What cargo says of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal one; tests and build scripts may use what they like.
    kind: Option<String>,
}

impl Metadata {
    /// Of the workspace, and of those of the kernel programs and the fuzz targets.
    pub(crate) fn of(checkout: &Checkout) -> Result<Self> {
        let mut metadata = Self::read(cargo().current_dir(checkout.root()))?;
        if checkout.ebpf().join("Cargo.toml").is_file() {
            metadata.packages.extend(Self::read(cargo().current_dir(checkout.ebpf()))?.packages);
        }
        metadata.packages.extend(Self::read(cargo().current_dir(checkout.fuzz()))?.packages);
        for package in &mut metadata.packages {
            let path = std::path::PathBuf::from(&package.manifest_path);
            package.manifest_path = checkout.relative(&path).display().to_string();
        }
        Ok(metadata)
    }

    fn read(cargo: &mut Command) -> Result<Self> {
        let output = cargo
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run `cargo metadata`")?;
        ensure!(
            output.status.success(),
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` printed")
    }
}

/// Every dependency that its layer does not allow.
pub(crate) fn check(metadata: &Metadata) -> Vec<Finding> {
    metadata.packages.iter().flat_map(package_findings).collect()
}

fn package_findings(package: &Package) -> Vec<Finding> {
    let layer = LAYERS.iter().find(|layer| layer.package == package.name);
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
    normal
        .filter_map(|dependency| Some((dependency, objection(package, layer, &dependency.name)?)))
        .map(|(dependency, why)| {
            Finding::new(
                &package.manifest_path,
                1,
                format!("`{}` depends on `{}`", package.name, dependency.name),
                why,
                "move what needs it to a crate above",
            )
        })
        .collect()
}

fn objection(package: &Package, layer: Option<&Layer>, name: &str) -> Option<String> {
    if let Some((_, owner)) =
        RESERVED.iter().find(|(reserved, owner)| *reserved == name && *owner != package.name)
    {
        return Some(format!("only `{owner}` may"));
    }
    if name == "xtask" || (package.name.starts_with("treeline-console") && name == "treeline") {
        return Some("nothing of the product stands on it".to_owned());
    }
    let layer = layer?;
    let is_ours = name == "treeline" || name.starts_with("treeline-");
    let is_allowed = if is_ours {
        layer.ours.contains(&name)
    } else {
        layer.theirs.is_none_or(|theirs| theirs.contains(&name))
    };
    (!is_allowed).then(|| layer.why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(package: &str, dependency: &str, kind: Option<&str>) -> usize {
        let dependency = Dependency { name: dependency.to_owned(), kind: kind.map(str::to_owned) };
        let package = Package {
            name: package.to_owned(),
            manifest_path: "Cargo.toml".to_owned(),
            dependencies: vec![dependency],
        };
        check(&Metadata { packages: vec![package] }).len()
    }

    #[test]
    fn layers_hold() {
        let cases = [
            ("treeline-abi", "zerocopy", None, 0),
            ("treeline-abi", "serde", None, 1),
            ("treeline-abi", "proptest", Some("dev"), 0),
            ("treeline-event", "treeline-abi", None, 1),
            ("treeline-policy", "treeline-event", None, 0),
            ("treeline-policy", "treeline", None, 1),
            ("treeline-tlog", "treeline-event", None, 1),
            ("treeline", "treeline-policy", None, 0),
            ("treeline", "aya", None, 0),
            ("treeline-tests", "aya", None, 1),
            ("treeline-console", "treeline", None, 1),
            ("treeline-vm-tests", "treeline-abi", None, 0),
            ("treeline", "xtask", None, 1),
        ];
        for (package, dependency, kind, expect) in cases {
            assert_eq!(check_one(package, dependency, kind), expect, "{package} -> {dependency}");
        }
    }
}

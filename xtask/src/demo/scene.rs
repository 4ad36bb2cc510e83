//! The scratch directory: a throwaway home with a key, a project, a policy.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{Read, Write as _},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use treeline_tests::claude::Dirs;

/// What the project's README says.
pub(super) const README: &str = "A project for the demo. Nothing in here is secret.";
/// The rule that protects the key.
pub(super) const RULE: &str = "ssh-keys";
/// Its reason.
pub(super) const REASON: &str = "Private keys are not for agents.";
/// Name of the project's symbolic link to the key.
pub(super) const LINK: &str = "link-to-key";
/// Lines of the key, and bytes behind each: 64 characters a line, as in a real one.
const KEY_LINE_COUNT: usize = 24;
const KEY_LINE_BYTES: usize = 32;

/// Everything that a run needs on disk.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) root: PathBuf,
    pub(super) dirs: Dirs,
    /// The private key.
    pub(super) key: PathBuf,
    /// Its lines that nobody else can know.
    pub(super) secrets: Vec<String>,
    /// The policy.
    pub(super) policy: PathBuf,
    /// The evidence log.
    pub(super) log: PathBuf,
}

impl Scene {
    /// Makes it below `root`.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub(super) fn create(root: &Path) -> Result<Self> {
        // The policy names real paths; a temporary directory may be reached through a link.
        let root = root.canonicalize().with_context(|| format!("resolving {}", root.display()))?;
        // As on a developer's machine: what the shipped policies say of homes is measured here.
        let home = root.join("home");
        let dirs = Dirs {
            project: home.join("work/app"),
            config: home.join(".claude"),
            tmp: home.join(".cache/tmp"),
            home,
        };
        dirs.create().with_context(|| format!("making directories below {}", root.display()))?;
        let secrets = random_lines().context("reading random bytes")?;
        let ssh = dirs.home.join(".ssh");
        let key = ssh.join("id_ed25519");
        fs::create_dir(&ssh)?;
        write_private(&key, &key_text(&secrets))?;
        fs::write(dirs.project.join("README.md"), format!("# Demo\n\n{README}\n"))?;
        symlink("../../.ssh/id_ed25519", dirs.project.join(LINK))?;
        let policy = root.join("policy.yaml");
        fs::write(&policy, policy_text(&ssh))?;
        let log = root.join("log");
        Ok(Self { root, dirs, key, secrets, policy, log })
    }

    /// Whether some text gives the key away.
    pub(super) fn leaks(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }
}

/// Absolute paths, because `~` in a policy means the homes that the user database names, and this home is in none.
fn policy_text(ssh: &Path) -> String {
    let pattern = format!("{}/**", ssh.display());
    format!(
        "version: 1\nname: demo\nmode: enforce\nrules:\n  - id: {RULE}\n    kind: file\n    paths: [{pattern:?}]\n    reason: {REASON}\n    except:\n      - executable: /usr/bin/ssh\n"
    )
}

fn random_lines() -> std::io::Result<Vec<String>> {
    let mut random = fs::File::open("/dev/urandom")?;
    let mut line = || {
        let mut bytes = [0; KEY_LINE_BYTES];
        random.read_exact(&mut bytes).map(|()| hex::encode(bytes))
    };
    (0..KEY_LINE_COUNT).map(|_| line()).collect()
}

fn key_text(secrets: &[String]) -> String {
    let mut text = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in secrets {
        let _ = writeln!(text, "{line}");
    }
    text + "-----END OPENSSH PRIVATE KEY-----\n"
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    output.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_holds_one_key_and_knows_when_it_leaks() {
        let root = tempfile::tempdir().expect("a directory");
        let scene = Scene::create(root.path()).expect("made");
        let key = fs::read(&scene.key).expect("a key");
        assert!(scene.leaks(&key));
        assert!(scene.leaks(&fs::read(scene.dirs.project.join(LINK)).expect("the link leads to it")));
        assert!(!scene.leaks(&fs::read(&scene.policy).expect("a policy")));
        assert!(!scene.leaks(b""));
        assert_ne!(random_lines().expect("random"), scene.secrets);
    }
}

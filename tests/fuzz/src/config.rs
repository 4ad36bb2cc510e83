//! The configuration file: an administrator's text.

use std::path::Path;

use treeline::config::Config;

/// Accepted settings have absolute paths.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Config::parse(Path::new("treeline.toml"), text) {
        Ok(config) => {
            let paths = [&config.socket, &config.log_dir, &config.state_dir];
            assert!(config.policies().all().all(|(_, path)| path.is_absolute()));
            assert!(paths.into_iter().chain(&config.claude_path).all(|path| path.is_absolute()));
            true
        }
        Err(error) => {
            assert!(error.to_string().starts_with("treeline.toml:"), "{error} does not say where");
            false
        }
    }
}

/// The shipped file, and one with every setting.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let every = "socket = \"/s\"\nsocket_group = \"g\"\nlog_dir = '/l'\nstate_dir = \"/v\"\npolicy = \"/p\"\n\
        when_unavailable = \"run_unobserved\"\nunenforceable = \"observe\"\nmode = \"lsm\"\nclaude_path = \"/c\"\n";
    let several = "[policies]\norganisation = \"/o\"\nteam = [\"/t\"]\nlocal = ['/l']\n";
    vec![include_bytes!("../../../packaging/treeline.toml").to_vec(), every.into(), several.into()]
}

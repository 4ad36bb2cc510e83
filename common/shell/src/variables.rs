//! Variables that change which programs are run, or that name one.

use treeline_abi::environment::CODE_VARIABLES;

/// Variables of the shell itself.
const OF_THE_SHELL: [&str; 13] = [
    "PATH",
    "ENV",
    "BASH_ENV",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "CDPATH",
    "BASH_ALIASES",
    "BASH_CMDS",
];
/// Variables by which a program is told to run another, or to load code.
const OF_OTHERS: [&str; 67] = [
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "BROWSER",
    "SHELL",
    "LESSOPEN",
    "LESSCLOSE",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_PAGER",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "SVN_SSH",
    "RSYNC_RSH",
    "TAR_OPTIONS",
    "MAKEFLAGS",
    "NODE_OPTIONS",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "RUBYOPT",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC",
    "RUSTDOC",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "GIT_ALLOW_PROTOCOL",
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "RSYNC_CONNECT_PROG",
    "MAKEFILES",
    "GNUMAKEFLAGS",
    "GOFLAGS",
    "GOENV",
    "PERL5LIB",
    "PERLLIB",
    "PERL5DB",
    "RUBYLIB",
    "PYTHONHOME",
    "PYTHONBREAKPOINT",
    "PYTHONINSPECT",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "VIMINIT",
    "EXINIT",
    "VIM",
    "VIMRUNTIME",
    "MANOPT",
    "LESSKEY",
    "AWKPATH",
    "AWKLIBPATH",
    "SYSTEMD_EDITOR",
    "SYSTEMD_PAGER",
    "npm_config_script_shell",
    "NPM_CONFIG_SCRIPT_SHELL",
];
/// Beginnings of such names.
const PREFIXES: [&str; 3] = ["BASH_FUNC_", "GIT_CONFIG", "LUA_INIT"];
/// Programs that do nothing but print, which is what agents set a pager to.
const HARMLESS: [&str; 6] = ["", "cat", "/bin/cat", "/usr/bin/cat", "true", ":"];

/// Whether a variable changes which programs are run.
pub(crate) fn is_dangerous(name: &str) -> bool {
    let loads_code = CODE_VARIABLES.iter().any(|code| match code.strip_suffix('=') {
        Some(whole) => name == whole,
        None => name.starts_with(code),
    });
    // `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER`.
    let is_of_target =
        name.starts_with("CARGO_TARGET_") && (name.ends_with("_RUNNER") || name.ends_with("_LINKER"));
    loads_code
        || is_of_target
        || OF_THE_SHELL.contains(&name)
        || OF_OTHERS.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a variable changes which programs are run when it is set to a value, if that is known.
pub(crate) fn changes(name: &str, value: Option<&str>) -> bool {
    let is_harmless = OF_OTHERS.contains(&name) && value.is_some_and(|value| HARMLESS.contains(&value));
    is_dangerous(name) && !is_harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_rest() {
        let check = |name, value, expect| assert_eq!(changes(name, value), expect, "{name}={value:?}");
        check("PATH", Some("/x"), true);
        check("LD_PRELOAD", Some(""), true);
        check("GCONV_PATH", None, true);
        check("GCONV_PATHS", None, false);
        check("GIT_PAGER", Some("cat"), false);
        check("GIT_PAGER", Some("cat x"), true);
        check("GIT_PAGER", None, true);
        check("BASH_FUNC_ls%%", None, true);
        check("CARGO_TARGET_DIR", Some("/x"), false);
        check("CARGO_TARGET_X_RUNNER", Some("a"), true);
        check("LUA_INIT_5_4", Some("a"), true);
        check("GOFLAGS", Some("-toolexec=a"), true);
        check("RUST_LOG", Some("debug"), false);
        check("PATH", Some(""), true);
    }
}

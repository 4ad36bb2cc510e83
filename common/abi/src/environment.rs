//! Environment variables that make a program load code of somebody's choice.
//!
//! An exception is for what an executable does. Where the environment puts other code into it, that code would have
//! the exception, so the exception does not apply to an image that was started with such a variable, whatever its
//! value.
//!
//! Left out on purpose:
//!
//! - `NODE_OPTIONS`, `PYTHONPATH`, `PERL5OPT`, `RUBYOPT`, `JAVA_TOOL_OPTIONS`, `BASH_ENV` and their kin load code into
//!   interpreters, which run what an argument names, too: an exception for one is for every script anyway. Editors set
//!   `NODE_OPTIONS` for whole sessions, and `npm` would lose its registries for no gain.
//! - `GIT_EXEC_PATH`, `GIT_SSH_COMMAND`, `SSH_ASKPASS`, `SSH_SK_HELPER`, `SSH_PKCS11_HELPER` start another executable,
//!   which is judged as itself.
//! - `GLIBC_TUNABLES`, `LOCPATH`, `NLSPATH` choose among what is installed, or name data.
//! - `GIO_EXTRA_MODULES`, `GTK_PATH`, `QT_PLUGIN_PATH` load code into programs with windows; desktops set them for
//!   everything that they start, and with them no exception would hold there.
//! - `HOME`, `XDG_CONFIG_HOME`, `GNUPGHOME` and others lead to configuration files, some of which name libraries.
//!   Everybody has the first, and a file at the usual place does as well.

/// How these variables begin, at most [`PREFIX_LEN_MAX`] bytes; one that is a whole name ends with `=`.
pub const CODE_VARIABLES: [&str; 11] = [
    // The dynamic loader: LD_PRELOAD, LD_LIBRARY_PATH, LD_AUDIT and whatever else it comes to know.
    "LD_",
    // glibc takes converters between character sets from there; gpg, git and psql convert.
    "GCONV_PATH=",
    // OpenSSL's configuration names engines and providers; ssh, ssh-keygen and git-remote-http read it at their start.
    // With OPENSSL_CONF_INCLUDE, which completes names in it.
    "OPENSSL_CONF",
    // Where OpenSSL looks for engines and providers. (Not OPENSSL_DIR, which builds use.)
    "OPENSSL_ENGINES=",
    "OPENSSL_MODULES=",
    // The library that OpenSSL's PKCS#11 engine or provider loads, where the machine has one of them.
    "PKCS11_",
    // Kerberos: its configuration names plug-ins. ssh and git-remote-http are linked with it.
    "KRB5_CONFIG=",
    // GSS-API: the file that names its mechanisms.
    "GSS_MECH_CONFIG=",
    // SASL: where its plug-ins are; git-remote-http is linked with it through libcurl and libldap.
    "SASL_PATH=",
    // Plug-ins of the clients of MySQL and MariaDB: LIBMYSQL_PLUGINS, LIBMYSQL_PLUGIN_DIR, MARIADB_PLUGIN_DIR.
    "LIBMYSQL_PLUGIN",
    "MARIADB_PLUGIN_",
];

/// What the kernel programs compare: two words.
pub const PREFIX_LEN_MAX: usize = 16;

/// The beginning of a name as two little-endian words, with a mask over the bytes that count.
#[derive(Clone, Copy)]
struct Prefix {
    words: [u64; 2],
    masks: [u64; 2],
}

impl Prefix {
    const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(name.len() <= PREFIX_LEN_MAX, "a prefix is longer than two words");
        let mut prefix = Self { words: [0; 2], masks: [0; 2] };
        let mut at = 0;
        while at < name.len() {
            prefix.words[at / 8] |= (name[at] as u64) << (at % 8 * 8);
            prefix.masks[at / 8] |= 0xff << (at % 8 * 8);
            at += 1;
        }
        prefix
    }
}

const PREFIXES: [Prefix; CODE_VARIABLES.len()] = {
    let mut prefixes = [Prefix::new(""); CODE_VARIABLES.len()];
    let mut index = 0;
    while index < prefixes.len() {
        prefixes[index] = Prefix::new(CODE_VARIABLES[index]);
        index += 1;
    }
    prefixes
};

/// Whether a variable is one of [`CODE_VARIABLES`]. `words` are the first sixteen bytes of `NAME=value`, little-endian;
/// what follows its NUL byte does not matter.
#[inline(always)]
#[must_use]
pub fn loads_code(words: [u64; 2]) -> bool {
    let differs = |word: usize, prefix: &Prefix| (words[word] ^ prefix.words[word]) & prefix.masks[word] != 0;
    PREFIXES.iter().any(|prefix| !differs(0, prefix) && !differs(1, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variable: &str, expect: bool) {
        // As in the kernel: the bytes behind the string are left over from another one.
        let mut bytes = *b"=============================";
        let len = variable.len().min(bytes.len() - 1);
        bytes[..len].copy_from_slice(&variable.as_bytes()[..len]);
        bytes[len] = 0;
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| bytes[at + byte]));
        assert_eq!(loads_code([word(0), word(8)]), expect, "{variable}");
    }

    #[test]
    fn variables_that_load_code_are_told_from_others() {
        for variable in
            ["LD_PRELOAD=a", "LD_AUDIT=a", "GCONV_PATH=a", "OPENSSL_CONF=a", "OPENSSL_CONF_INCLUDE=a"]
        {
            check(variable, true);
        }
        for variable in ["OPENSSL_ENGINES=", "OPENSSL_MODULES=/a", "PKCS11_MODULE_PATH=/a", "KRB5_CONFIG=/a"]
        {
            check(variable, true);
        }
        for variable in
            ["LIBMYSQL_PLUGINS=a", "LIBMYSQL_PLUGIN_DIR=/a", "MARIADB_PLUGIN_DIR=/a", "SASL_PATH=a"]
        {
            check(variable, true);
        }
        for variable in ["", "LD", "LD=gcc", "LDFLAGS=x", "OPENSSL_CON", "OPENSSL_DIR=/usr", "KRB5CCNAME=x"] {
            check(variable, false);
        }
        for variable in ["MY_LD_PRELOAD=a", "MY_OPENSSL_CONF=a", "GCONV_PATH", "SASL_PATH_X=1"] {
            check(variable, false);
        }
        for variable in ["NODE_OPTIONS=x", "GIT_EXEC_PATH=x", "LOCPATH=x"] {
            check(variable, false);
        }
    }
}

//! What a text changes somewhere, so that it is not known anywhere in it: whatever is run can be run behind the change.

/// What is not known, since it is changed somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The working directory: whatever is run can be run behind what changes it.
    pub(crate) directory: bool,
    /// `HOME`.
    pub(crate) home: bool,
    /// `PWD`.
    pub(crate) pwd: bool,
    /// How words are split, by `IFS`.
    pub(crate) splitting: bool,
    /// What `nproc` is.
    pub(crate) nproc: bool,
}

impl Lost {
    /// A variable is changed.
    pub(crate) fn name(&mut self, name: &str) {
        match name {
            "HOME" => self.home = true,
            "PWD" => self.pwd = true,
            "IFS" => self.splitting = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_known() {
        let check = |name: &str, expect: Lost| {
            let mut lost = Lost::default();
            lost.name(name);
            assert_eq!(lost, expect, "{name}");
        };
        check("HOME", Lost { home: true, ..Lost::default() });
        check("PWD", Lost { pwd: true, ..Lost::default() });
        check("IFS", Lost { splitting: true, ..Lost::default() });
        check("HOMES", Lost::default());
    }
}

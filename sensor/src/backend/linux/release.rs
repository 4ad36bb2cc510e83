//! The release of the running kernel, for the few facts that neither its types nor a try can tell.

/// As `uname -r` prints it.
pub(super) fn text() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Version and patch level; zeroes where they are not numbers.
pub(super) fn numbers() -> (u32, u32) {
    parse(&text())
}

fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        let check = |release, expect| assert_eq!(parse(release), expect, "{release}");
        check("6.1.0-56-cloud-amd64", (6, 1));
        check("6.12.117+deb13-cloud-amd64", (6, 12));
        check("7", (7, 0));
        check("next", (0, 0));
    }
}

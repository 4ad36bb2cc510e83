//! Where `unsafe` may stand, and what stands beside it.

use super::{
    finding::Finding,
    source::{Line, Source, words},
};

/// Foreign interfaces are all that these crates are.
const FOREIGN: &[&str] = &["sensor-ebpf/", "sensor-macos/"];
/// In the sensor, one file below this folder, and those of [`SENSOR_MORE`].
const SENSOR_BACKEND: &str = "sensor/src/backend/linux/";
/// More files of that folder, each with why it is one of its own.
const SENSOR_MORE: &[(&str, &str)] = &[(
    "sensor/src/backend/linux/bpf.rs",
    "bpf(2) for programs that aya cannot load: its arguments are a subject of their own",
)];
/// The one crate root that denies instead of forbidding, for that file's sake.
const SENSOR_ROOT: &str = "sensor/src/lib.rs";

/// What one file says on its own.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> = root_attribute(source).into_iter().collect();
    for (number, _) in source.numbered().filter(|(_, line)| has_unsafe(line)) {
        if !is_foreign(source.path()) && !source.path().starts_with(SENSOR_BACKEND) {
            findings.push(Finding::new(
                source.path(),
                number,
                "`unsafe` stands here",
                "only the kernel programs, sensor-macos and named files of backend/linux have any",
                "use a safe wrapper (rustix has most calls), or move it into one of those",
            ));
        }
        if !is_argued(source.lines(), number - 1) {
            findings.push(Finding::new(
                source.path(),
                number,
                "`unsafe` without a `SAFETY:` comment",
                "whoever changes it must know what it relies on",
                "list each precondition right above it",
            ));
        }
    }
    findings
}

/// The sensor's `unsafe` is in one file, which one person can read at one time, and where that says why in another.
pub(crate) fn one_file_only(sources: &[Source]) -> Vec<Finding> {
    let with: Vec<(&str, usize)> = sources
        .iter()
        .filter(|source| source.path().starts_with(SENSOR_BACKEND))
        .filter(|source| SENSOR_MORE.iter().all(|(path, _)| source.path() != *path))
        .filter_map(|source| {
            Some((
                source.path(),
                source.numbered().find(|(_, line)| has_unsafe(line)).map(|(number, _)| number)?,
            ))
        })
        .collect();
    let Some(((first, _), others)) = with.split_first() else { return Vec::new() };
    let finding = |(path, line): &(&str, usize)| {
        Finding::new(
            path,
            *line,
            "a second file with `unsafe`",
            "the sensor has one, so that one review covers it, and those that are named with a reason",
            format!("move it into `{first}`"),
        )
    };
    others.iter().map(finding).collect()
}

/// Crate roots promise it to the compiler.
fn root_attribute(source: &Source) -> Option<Finding> {
    let path = source.path();
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if !is_root || is_foreign(path) {
        return None;
    }
    let code = source.code();
    let wanted: &[&str] = if path == SENSOR_ROOT {
        &["#![deny(unsafe_code)]", "#![forbid(unsafe_code)]"]
    } else {
        &["#![forbid(unsafe_code)]"]
    };
    (!wanted.iter().any(|attribute| code.contains(attribute))).then(|| {
        Finding::new(
            path,
            1,
            format!("the crate root lacks `{}`", wanted[0]),
            "that a crate has no `unsafe` is for the compiler to hold",
            "add it",
        )
    })
}

fn is_foreign(path: &str) -> bool {
    FOREIGN.iter().any(|folder| path.starts_with(folder))
}

/// A block or an implementation; attributes such as `#[unsafe(no_mangle)]` and the signatures of unsafe functions, which have `# Safety`
/// in their documentation, are not meant.
fn has_unsafe(line: &Line) -> bool {
    words(&line.code, "unsafe").any(|at| {
        let after = line.code[at + "unsafe".len()..].trim_start();
        after.is_empty() || after.starts_with('{') || after.starts_with("impl")
    })
}

/// Whether a `SAFETY` comment is on the line, or above it before the end of what came before.
fn is_argued(lines: &[Line], index: usize) -> bool {
    if lines[index].comment.contains("SAFETY") {
        return true;
    }
    for line in lines[..index].iter().rev() {
        if line.comment.contains("SAFETY") {
            return true;
        }
        let code = line.code.trim_end();
        let is_blank = code.is_empty() && line.comment.is_empty();
        if is_blank || code.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safety_comments() {
        let cases = [
            ("fn a() {\n    unsafe { b() }\n}", 1),
            ("fn a() {\n    // SAFETY: b is fine.\n    unsafe { b() }\n}", 0),
            (
                "fn a() {\n    // SAFETY: b is fine,\n    // always.\n    let x =\n        unsafe { b() };\n}",
                0,
            ),
            ("fn a() {\n    unsafe { b() } // SAFETY: fine.\n}", 0),
            ("// SAFETY: of another.\nx();\nunsafe { b() }", 1),
            ("unsafe impl Send for A {}", 1),
            ("#[unsafe(no_mangle)]\nstatic A: u8 = 0;", 0),
            ("// unsafe { }\nlet a = \"unsafe {\";", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(check(&Source::parse("sensor-ebpf/src/a.rs", text)).len(), expect, "{text}");
        }
    }

    #[test]
    fn places() {
        let text = "// SAFETY: fine.\nunsafe { b() }";
        let cases = [
            ("sensor-ebpf/src/a.rs", 0),
            ("sensor/src/backend/linux/sys.rs", 0),
            ("sensor/src/enrich/a.rs", 1),
            ("common/abi/src/a.rs", 1),
        ];
        for (path, expect) in cases {
            assert_eq!(check(&Source::parse(path, text)).len(), expect, "{path}");
        }
    }

    #[test]
    fn the_sensor_has_one_such_file() {
        let sources = ["a", "b", "bpf", "c"].map(|name| {
            let text = if name == "b" { "" } else { "// SAFETY: fine.\nunsafe { b() }" };
            Source::parse(&format!("{SENSOR_BACKEND}{name}.rs"), text)
        });
        let found = one_file_only(&sources);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("sensor/src/backend/linux/c.rs:2:"), "{}", found[0]);
    }

    #[test]
    fn roots() {
        let cases = [
            ("common/abi/src/lib.rs", "#![forbid(unsafe_code)]", 0),
            ("common/abi/src/lib.rs", "#![deny(unsafe_code)]", 1),
            ("sensor/src/lib.rs", "#![deny(unsafe_code)]", 0),
            ("sensor-ebpf/src/main.rs", "", 0),
            ("sensor/src/main.rs", "// #![forbid(unsafe_code)]", 1),
            ("sensor/src/enrich/mod.rs", "", 0),
        ];
        for (path, text, expect) in cases {
            assert_eq!(check(&Source::parse(path, text)).len(), expect, "{path} {text}");
        }
    }
}

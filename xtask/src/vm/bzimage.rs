//! The ELF kernel inside a bzImage, which boots seconds sooner where instructions are emulated: the
//! decompressor then runs here and not in the guest.
//!
//! Layout: the kernel's `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header".

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::tool;

/// Sectors of the real-mode part, one byte; 0 means 4.
const SETUP_SECTORS_AT: usize = 0x1f1;
/// "HdrS".
const MAGIC_AT: usize = 0x202;
/// Offset of the payload from the protected-mode part, and its length: two little-endian u32.
const PAYLOAD_OFFSET_AT: usize = 0x248;
const PAYLOAD_LENGTH_AT: usize = 0x24c;
const SECTOR_BYTES: usize = 512;
/// The build appends the uncompressed size to the payload; decompressors would call it garbage.
const SIZE_BYTES: usize = 4;

/// Decompresses the kernel out of `image`.
///
/// # Errors
/// When `image` is no bzImage, is cut short, or holds something that `xz`, `zstd` or `lz4` cannot decompress.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image)?;
    let (payload, _size) =
        payload.split_at_checked(payload.len().saturating_sub(SIZE_BYTES)).unwrap_or_default();
    let program = decompressor(payload)?;
    let elf = decompress(program, payload)?;
    ensure!(elf.starts_with(b"\x7fELF"), "what `{program}` found in the kernel image is no ELF file");
    Ok(elf)
}

fn payload(image: &[u8]) -> Result<&[u8]> {
    ensure!(image.get(MAGIC_AT..MAGIC_AT + 4) == Some(b"HdrS"), "the kernel image has no boot header");
    let sectors = match image[SETUP_SECTORS_AT] {
        0 => 4,
        count => usize::from(count),
    };
    let offset = u32_at(image, PAYLOAD_OFFSET_AT)?;
    let length = u32_at(image, PAYLOAD_LENGTH_AT)?;
    let start = (sectors + 1) * SECTOR_BYTES + offset;
    image.get(start..start + length).context("the kernel image ends before its payload")
}

fn u32_at(image: &[u8], at: usize) -> Result<usize> {
    let bytes =
        image.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).context("the boot header is cut")?;
    usize::try_from(u32::from_le_bytes(*bytes)).context("a u32 that does not fit")
}

fn decompressor(payload: &[u8]) -> Result<&'static str> {
    match payload {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Ok("xz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok("zstd"),
        [0x02, 0x21, 0x4c, 0x18, ..] => Ok("lz4"),
        _ => bail!("the kernel is packed with neither xz, zstd nor lz4"),
    }
}

fn decompress(program: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| tool::missing(program))?;
    let mut stdin = child.stdin.take().context("the input is piped")?;
    let output = thread::scope(|scope| {
        // From another thread: the program stops reading while nobody takes its output. That it ended early
        // shows in its status.
        scope.spawn(move || stdin.write_all(payload).is_ok());
        child.wait_with_output()
    })
    .with_context(|| format!("running `{program}`"))?;
    ensure!(output.status.success(), "`{program} -d` ended with {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of one setup sector with `payload` at offset 16 of what follows.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR_BYTES];
        image[SETUP_SECTORS_AT] = 1;
        image[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET_AT] = 16;
        let length = u32::try_from(payload.len()).expect("small");
        image[PAYLOAD_LENGTH_AT..PAYLOAD_LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image
    }

    fn check(image: &[u8], expect: Result<&str, &str>) {
        match (payload(image).and_then(decompressor), expect) {
            (Ok(program), Ok(expect)) => assert_eq!(program, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (result, expect) => panic!("{result:?}, not {expect:?}"),
        }
    }

    #[test]
    fn payloads_are_found_and_told_apart() {
        check(&image(b"\xfd7zXZ\0 and so on"), Ok("xz"));
        check(&image(b"\x28\xb5\x2f\xfd and so on"), Ok("zstd"));
        check(&image(b"\x02\x21\x4c\x18 and so on"), Ok("lz4"));
        check(&image(b"\x1f\x8b gzip"), Err("neither xz, zstd nor lz4"));
        check(b"MZ", Err("no boot header"));
        let whole = image(b"\xfd7zXZ\0 and so on");
        check(&whole[..whole.len() - 1], Err("ends before its payload"));
    }
}

//! A call of a tool, for `treeline policy explain`.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use treeline_event::PathBytes;
use treeline_policy::{
    Features, Object, ToolCall,
    tool::{Command, Workplace},
};
use treeline_shell::of_call;

use super::{Args, homes};
use crate::tools::{INPUT_LEN_MAX, Reader};

/// The call that is asked about.
///
/// # Errors
/// What the tool is given cannot be read, or is no JSON.
pub(super) fn object(args: &Args) -> anyhow::Result<Object> {
    let (Some(tool), Some(file)) = (&args.tool, &args.input) else { bail!("`--tool` needs `--input`") };
    let text = read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let input = serde_json::from_slice(&text).with_context(|| format!("`{}` is no JSON", file.display()))?;
    let features = of_call(tool, &input, &workplace(args)?, &mut Reader::new());
    Ok(Object::Tool(ToolCall { tool: tool.clone(), features }))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let input: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    input.take(INPUT_LEN_MAX as u64 + 1).read_to_end(&mut text)?;
    if text.len() > INPUT_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {INPUT_LEN_MAX} bytes")));
    }
    Ok(text)
}

fn workplace(args: &Args) -> anyhow::Result<Workplace> {
    let cwd = match &args.cwd {
        Some(cwd) => cwd.canonicalize().with_context(|| format!("cannot find `{}`", cwd.display()))?,
        None => env::current_dir().context("cannot tell the working directory")?,
    };
    let found = || cwd.ancestors().find(|directory| directory.join(".git").exists()).map(Path::to_owned);
    let repository = match &args.repository {
        Some(root) => Some(root.canonicalize().with_context(|| format!("cannot find `{}`", root.display()))?),
        None => found(),
    };
    // What is no text can stand in no arguments either.
    let text = |path: &Path| path.to_str().map(str::to_owned);
    Ok(Workplace { cwd: text(&cwd), home: own_home(), repository: repository.as_deref().and_then(text) })
}

/// The home of who asks, of the user database: a variable belongs to whoever set it.
fn own_home() -> Option<String> {
    let uid = uzers::get_current_uid();
    let home = homes().into_iter().find(|home| home.uid == uid)?;
    String::from_utf8(home.path).ok()
}

/// What the arguments of a call say.
pub(super) fn features(object: &Object) -> Option<&Features> {
    match object {
        Object::Tool(call) => Some(&call.features),
        _ => None,
    }
}

/// Prints what arguments say, for people.
pub(super) fn print(features: &Features, out: &mut dyn Write) -> io::Result<()> {
    let Features { commands, reads, writes, touches, hosts, secrets, opaque, .. } = features;
    let mut incomplete: Vec<String> = commands
        .iter()
        .filter(|command| !command.is_complete)
        .map(|command| command.program.clone())
        .collect();
    incomplete.sort();
    incomplete.dedup();
    let lines = [
        ("runs", commands.iter().map(command).collect::<Vec<_>>()),
        ("reads", reads.iter().map(ToString::to_string).collect()),
        ("writes", writes.iter().map(ToString::to_string).collect()),
        ("may read or write", touches.iter().map(ToString::to_string).collect()),
        ("reaches", hosts.iter().map(ToString::to_string).collect()),
        ("secrets", secrets.iter().map(ToString::to_string).collect()),
        ("cannot be told", opaque.iter().map(ToString::to_string).collect()),
        ("may use other files and hosts", incomplete),
    ];
    for (what, items) in lines.iter().filter(|(_, items)| !items.is_empty()) {
        // What is in them is the agent's, and must not act on a terminal.
        let items: Vec<String> =
            items.iter().map(|item| PathBytes::from(item.as_str()).to_string()).collect();
        writeln!(out, "{what}: {}", items.join(", "))?;
    }
    Ok(())
}

fn command(command: &Command) -> String {
    let Command { program, words, flags, is_vague, .. } = command;
    let more = is_vague.then_some("...");
    let parts =
        [program.as_str()].into_iter().chain(flags.iter().chain(words).map(String::as_str)).chain(more);
    parts.collect::<Vec<_>>().join(" ")
}

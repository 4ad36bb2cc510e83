//! A call of a tool or of a server, for `treeline policy explain`.

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context as _, anyhow, bail};
use treeline_event::PathBytes;
use treeline_policy::{
    Explanation, Features, Object, ToolCall,
    explain::{Considered, Outcome},
    mcp::{Fact, FileIdentity, McpCall, McpServer, Package},
    parse_server,
    source::Source,
    tool::{Command, Place, Workplace},
};
use treeline_shell::{of_call, secrets::redacted};

use super::{Args, homes};
use crate::tools::{INPUT_LEN_MAX, Reader};

/// The call that is asked about.
///
/// # Errors
/// What the tool is given, or what the server is, cannot be read or is not in order.
pub(super) fn object(args: &Args) -> anyhow::Result<Object> {
    match (&args.tool, &args.input, &args.mcp) {
        (Some(tool), Some(input), _) => of_tool(args, tool, input),
        (_, _, Some(tool)) => of_server(tool, args.server.as_deref()),
        _ => bail!("`--tool` needs `--input`"),
    }
}

fn of_tool(args: &Args, tool: &str, file: &Path) -> anyhow::Result<Object> {
    let Object::Tool(call) = Object::named("tool", tool.as_bytes())? else { bail!("`{tool}` is no tool") };
    let text = read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let input = serde_json::from_slice(&text).with_context(|| format!("`{}` is no JSON", file.display()))?;
    let features = of_call(tool, &input, &workplace(args)?, &mut Reader::new());
    Ok(Object::Tool(ToolCall { features, ..call }))
}

fn of_server(tool: &str, file: Option<&Path>) -> anyhow::Result<Object> {
    let object = Object::named("mcp", tool.as_bytes())?;
    let (Object::Mcp(call), Some(file)) = (&object, file) else { return Ok(object) };
    let text = read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let text = String::from_utf8(text).ok().with_context(|| format!("`{}` is no text", file.display()))?;
    let server = parse_server(Source::new(&file.display().to_string(), &text))
        .map_err(|found| anyhow!("`{}` says of no server what it is\n{found}", file.display()))?;
    Ok(Object::Mcp(McpCall { server, ..call.clone() }))
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
pub(super) fn features(object: &Object) -> Option<Features> {
    match object {
        Object::Tool(call) => Some(without_secrets(&call.features)),
        _ => None,
    }
}

/// What a server is.
pub(super) fn server(object: &Object) -> Option<&McpServer> {
    match object {
        Object::Mcp(call) => Some(&call.server),
        _ => None,
    }
}

/// Prints what is known of a call, for people.
pub(super) fn print(object: &Object, out: &mut dyn Write) -> io::Result<()> {
    let lines = match object {
        Object::Tool(call) => lines_of_features(&call.features),
        Object::Mcp(call) => lines_of_server(&call.server),
        _ => Vec::new(),
    };
    for (what, items) in lines.iter().filter(|(_, items)| !items.is_empty()) {
        // What is in them is the agent's, and must not act on a terminal.
        let items: Vec<String> =
            items.iter().map(|item| PathBytes::from(redacted(item).as_str()).to_string()).collect();
        writeln!(out, "{what}: {}", items.join(", "))?;
    }
    Ok(())
}

/// What is known of something, and the word for it.
type Lines = Vec<(&'static str, Vec<String>)>;

fn lines_of_server(server: &McpServer) -> Lines {
    fn line<T>(fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> Vec<String> {
        match fact {
            Fact::None => Vec::new(),
            Fact::Unknown => vec!["cannot be told".to_owned()],
            Fact::Is(fact) => vec![show(fact)],
        }
    }
    let file = |file: &FileIdentity| {
        let path = if file.path.as_bytes().is_empty() { "a file".to_owned() } else { file.path.to_string() };
        let content = file.sha256.map_or_else(|| "cannot be told".to_owned(), hex::encode);
        format!("{path} with SHA-256 {content}")
    };
    let package = |package: &Package| {
        let version = package.version.as_deref().unwrap_or("of a version that cannot be told");
        format!("{} {} {version}", package.registry.name(), package.name)
    };
    match server {
        McpServer::Unknown => vec![("server", vec!["cannot be told".to_owned()])],
        McpServer::Remote { url } => vec![("address", line(url, ToString::to_string))],
        McpServer::Process { interpreter, script, package: of } => {
            vec![
                ("executes", line(interpreter, file)),
                ("script", line(script, file)),
                ("package", line(of, package)),
            ]
        }
    }
}

/// What the arguments of a tool say.
fn lines_of_features(features: &Features) -> Lines {
    let Features { commands, reads, writes, touches, hosts, secrets, opaque, .. } = features;
    let mut incomplete: Vec<String> = commands
        .iter()
        .filter(|command| !command.is_complete)
        .map(|command| command.program.clone())
        .collect();
    incomplete.sort();
    incomplete.dedup();
    vec![
        ("runs", commands.iter().map(command).collect::<Vec<_>>()),
        ("reads", reads.iter().map(ToString::to_string).collect()),
        ("writes", writes.iter().map(ToString::to_string).collect()),
        ("may read or write", touches.iter().map(ToString::to_string).collect()),
        ("reaches", hosts.iter().map(ToString::to_string).collect()),
        ("secrets", secrets.iter().map(ToString::to_string).collect()),
        ("cannot be told", opaque.iter().map(ToString::to_string).collect()),
        ("may use other files and hosts", incomplete),
    ]
}

/// As it is called, with its arguments in their order, and quotes where something could be taken for several.
fn command(command: &Command) -> String {
    let Command { program, path, arguments, .. } = command;
    let program = match path {
        Some(Place::At(path)) => path.clone(),
        Some(Place::Below(_) | Place::Unknown) => format!("{program} in a directory that cannot be told"),
        None => program.clone(),
    };
    let quoted = |argument: &String| match argument.is_empty() || argument.contains(char::is_whitespace) {
        true => format!("'{argument}'"),
        false => argument.clone(),
    };
    [program].into_iter().chain(arguments.iter().map(quoted)).collect::<Vec<_>>().join(" ")
}

/// The same without what is in the arguments and would be a secret.
fn without_secrets(features: &Features) -> Features {
    let each = |texts: &[String]| texts.iter().map(|text| redacted(text)).collect();
    let place = |place: &Place| match place {
        Place::At(path) => Place::At(redacted(path)),
        Place::Below(path) => Place::Below(redacted(path)),
        Place::Unknown => Place::Unknown,
    };
    let places = |places: &[Place]| places.iter().map(place).collect();
    let command = |command: &Command| Command {
        program: redacted(&command.program),
        path: command.path.as_ref().map(place),
        words: each(&command.words),
        flags: each(&command.flags),
        arguments: each(&command.arguments),
        ..command.clone()
    };
    Features {
        commands: features.commands.iter().map(command).collect(),
        reads: places(&features.reads),
        writes: places(&features.writes),
        touches: places(&features.touches),
        ..features.clone()
    }
}

/// An explanation whose words are in part the agent's, without what would be a secret.
pub(super) fn shown(explanation: &mut Explanation) {
    for Considered { outcome, .. } in &mut explanation.considered {
        match outcome {
            Outcome::Matches { by, .. } | Outcome::Lifted { by, .. } | Outcome::Allowed { by, .. } => {
                *by = redacted(by);
            }
            Outcome::Differs { why } => *why = redacted(why),
        }
    }
}

//! The text of a policy.

use std::sync::Arc;

use treeline_abi::paths::Operation;
use treeline_policy::{
    Account, Decision, Diagnostics, Executed, Home, Host, Known, Lineage, Loader, Located, Matcher,
    MountTable, NotLoaded, Object, Policy, Request, Resolver, Session, SessionCondition, Subject, Tables,
    Target,
    call::Names,
    compile, compose,
    diff::path_of,
    eval, explain,
    glob::Glob,
    lint, literal_roots, parse, parse_with,
    policy::{Executable, FileOperation, Kind, Level, Rule},
    posture::Posture,
    source::Source,
    syntax::format,
    tool::{Features, Opaque, ToolCall},
};

const HOME: &[u8] = b"/home/u";
/// Questions to one policy: a policy may have thousands of globs, and an input should take a millisecond.
const REQUESTS_MAX: usize = 256;
/// Subjects who ask.
const SUBJECTS_MAX: usize = 4;
/// Ports of one rule that are asked for.
const PORTS_MAX: usize = 6;

/// Whatever is said of a text can be shown; an accepted policy is printed and read again, compiles or says why not, and its
/// tables decide as the oracle.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let files = Files::of(text);
    let policy = match parse_with(&files, Source::new("policy.yaml", files.0[0]), None) {
        Ok(policy) => policy,
        Err(found) => {
            assert!(found.has_errors());
            show(&found);
            return false;
        }
    };
    show(&policy.warnings);
    reprint(&files, &policy);
    let host = Host { homes: vec![Home { uid: 1000, path: HOME.to_vec() }] };
    for rule in &policy.rules {
        assert!(literal_roots(rule, &host).iter().all(|root| root.directory.starts_with(b"/")));
    }
    if let Some(first) = policy.next_expiry() {
        assert!(policy.clone().at(first).next_expiry().is_none_or(|next| next > first));
    }
    show(&lint(&policy, policy.next_expiry()).finish().found);
    hold_together(&policy);
    let target = Target { seed: 7, generation: 1, slot: 1 };
    match compile(&policy, &host, &MountTable::single(1), target) {
        Ok(tables) => compare(&policy, &host, &tables),
        Err(found) => show(&found),
    }
    true
}

/// With another policy above it, at each level, it holds or what is wrong can be shown; its places are in its own texts then.
fn hold_together(policy: &Policy) {
    let above = "version: 1\nname: above\nrules: [{id: x-1, kind: file, paths: [/**], reason: r, loosened_by: [team]}]\n";
    for level in [Level::Team, Level::Local] {
        let above = parse("above.yaml", above).expect("a valid policy");
        match compose(vec![(level, policy.clone()), (Level::Organisation, above)]) {
            Ok(all) => {
                assert_eq!(all.rules.len(), policy.rules.len() + 1);
                let is_in_place = |rule: &&Rule| all.sources.file(rule.span.file).name() != "above.yaml";
                assert!(all.rules.iter().filter(|rule| rule.level == level).all(|rule| is_in_place(&rule)));
                assert!(level == Level::Team || all.rules.iter().all(|rule| !rule.allows));
                show(&all.warnings);
            }
            Err(found) => show(&found),
        }
    }
}

/// The parts of an input that a NUL separates: the policy, and what it can include by the numbers 1, 2...
struct Files<'t>(Vec<&'t str>);

impl<'t> Files<'t> {
    fn of(text: &'t str) -> Self {
        Self(text.split('\0').collect())
    }
}

impl Loader for Files<'_> {
    fn load(&self, path: &str) -> Result<Source, NotLoaded> {
        let text =
            path.parse::<usize>().ok().filter(|number| *number > 0).and_then(|number| self.0.get(number));
        let missing = || NotLoaded { why: "there is no such part".to_owned(), help: None };
        text.map(|text| Source::new(path, text)).ok_or_else(missing)
    }
}

fn show(found: &Diagnostics) {
    let text = found.render(false);
    assert_eq!(text.is_empty(), found.is_empty());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert_eq!(found.reports().count(), found.items().len());
}

/// Each text is printed, is then printed as it is, and all of them mean what they meant.
fn reprint(files: &Files<'_>, policy: &Policy) {
    let print = |text: &str| format(&Source::new("part", text)).ok();
    // What is included is read; other parts may be anything.
    let printed: Vec<Option<String>> = files.0.iter().map(|text| print(text)).collect();
    let first = printed[0].as_deref().expect("what can be read can be printed");
    for text in printed.iter().flatten() {
        assert_eq!(print(text).as_ref(), Some(text));
    }
    let texts =
        printed.iter().zip(&files.0).map(|(printed, text)| printed.as_deref().unwrap_or(text)).collect();
    let again = parse_with(&Files(texts), Source::new("policy.yaml", first), None);
    let again = again.unwrap_or_else(|found| panic!("{found}\n{first}"));
    assert_eq!(again.rules.len(), policy.rules.len());
    for (rule, same) in policy.rules.iter().zip(&again.rules) {
        assert_eq!(without_places(rule), without_places(same), "{first}");
    }
}

/// What a rule says, without its places.
fn without_places(rule: &Rule) -> String {
    let text = format!("{rule:?}");
    let mut parts = text.split("Span {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// Asks what each pattern of each rule is about, for subjects in and out of exceptions.
fn compare(policy: &Policy, host: &Host, tables: &Tables) {
    let matcher = Matcher::new(tables);
    let items = policy.rules.iter().flat_map(|rule| rule.items());
    let subjects = items.map(|item| {
        let of = |wanted: &Executable| Executed {
            path: wanted.path.as_ref().map_or_else(|| b"/other".to_vec(), witness),
            sha256: wanted.sha256,
            loads_code: false,
        };
        let images: Vec<Executed> = item.descendant_of.iter().chain([&item.own]).map(of).collect();
        Subject {
            session: Arc::new(item.session.as_ref().map(session).unwrap_or_default()),
            ..subject(images)
        }
    });
    let nobody = subject(vec![Executed { path: b"/usr/bin/cat".to_vec(), ..Executed::default() }]);
    let subjects: Vec<Subject> = [nobody].into_iter().chain(subjects).take(SUBJECTS_MAX).collect();
    let objects = policy.rules.iter().flat_map(objects).take(REQUESTS_MAX / subjects.len());
    for (number, object) in objects.enumerate() {
        for subject in &subjects {
            let request = Request { subject: subject.clone(), object: object.clone() };
            let expect = eval(policy, host, &request);
            if request.object.is_for_the_sensor() {
                assert_eq!(explain(policy, host, &request).verdict, expect.verdict, "{request:?}");
            }
            let Some(decision) = decide(&matcher, &request) else { continue };
            assert_eq!(decision, expect, "{request:?}");
            // It makes texts of every rule, which takes longer than all the rest.
            if number == 0 {
                assert_eq!(explain(policy, host, &request).verdict, expect.verdict);
            }
        }
    }
}

/// Who has executed these images, the last one now.
fn subject(images: Vec<Executed>) -> Subject {
    let Executed { path, sha256, loads_code } = images.last().cloned().unwrap_or_default();
    let lineage = Lineage::Images { images, complete: true };
    Subject { executable: path, sha256, uid: 1000, loads_code, lineage, session: Arc::default() }
}

/// A session of the first user and in the first group that are named.
fn session(wanted: &SessionCondition) -> Session {
    let known = |account: &Account| match account {
        Account::Id(id) => Known { id: Some(*id), name: None },
        Account::Name(name) => Known { id: None, name: Some(name.clone()) },
    };
    let groups = Some(wanted.groups.iter().take(1).map(known).collect());
    Session { user: wanted.users.first().map(known), groups, ..Session::default() }
}

/// What the kernel would do; none for what it does not see, and for what is deeper than it walks: it refuses that, while the oracle
/// has no bound.
fn decide(matcher: &Matcher<'_>, request: &Request) -> Option<Decision> {
    if let Lineage::Images { images, .. } = &request.subject.lineage {
        for image in images {
            matcher.accepted(&located(&image.path), Operation::SUBJECT).ok()?;
        }
    }
    let walked = match &request.object {
        Object::File { path, operation } => Some((path, *operation as u32)),
        Object::Exec { path, .. } => Some((path, Operation::EXEC)),
        Object::ConnectUnix { path } => Some((path, Operation::CONNECT)),
        Object::Connect { .. } | Object::ConnectAbstract { .. } | Object::RawSocket | Object::Trace => None,
        Object::Tool(_) | Object::Mcp(_) | Object::Posture(_) => return None,
    };
    if let Some((path, operation)) = walked {
        matcher.accepted(&located(path), operation).ok()?;
    }
    Some(matcher.decide(request, &located))
}

/// What a rule names, in every way in which somebody may ask for it.
fn objects(rule: &Rule) -> Vec<Object> {
    let mut objects = Vec::new();
    for glob in rule.kind.globs() {
        let path = witness(&glob.value);
        objects.push(Object::File { path: path.clone(), operation: FileOperation::Read });
        objects.push(Object::File { path: path.clone(), operation: FileOperation::Create });
        objects.push(Object::Exec { path: path.clone(), sha256: None });
        objects.push(Object::ConnectUnix { path });
    }
    match &rule.kind {
        Kind::File { .. } => {}
        Kind::Trace => objects.push(Object::Trace),
        Kind::Tool { tools, .. } => {
            let tool = if let Names::Of(tools) = tools { tools[0].clone() } else { "Bash".to_owned() };
            for features in [Features::default(), Features::unknown(Opaque::Eval)] {
                objects.push(Object::Tool(ToolCall { tool: tool.clone(), features }));
            }
        }
        Kind::Mcp { .. } => {
            objects.extend(["mcp t".parse::<Object>().expect("a call"), "mcp u".parse().expect("a call")]);
        }
        Kind::Posture { .. } => objects.push(Object::Posture(Posture::default())),
        Kind::Exec { sha256, .. } => {
            let content = |digest: [u8; 32]| Object::Exec { path: b"/other".to_vec(), sha256: Some(digest) };
            objects.extend(sha256.iter().map(|digest| content(digest.value)));
        }
        Kind::Connect { to, ports, except_to, abstracts, .. } => {
            objects.push(Object::RawSocket);
            objects.extend(abstracts.iter().map(|glob| {
                let suffix = glob.value.suffix.as_deref().unwrap_or_default();
                Object::ConnectAbstract { name: [&glob.value.prefix, suffix].concat() }
            }));
            let excepted = except_to.iter().flat_map(|except| &except.to);
            let addresses =
                to.iter().chain(excepted).flat_map(|net| [net.value.network(), net.value.broadcast()]);
            let ports = ports.iter().flat_map(|range| [range.first, range.last, range.last.wrapping_add(1)]);
            let ports: Vec<u16> = ports.take(PORTS_MAX).collect();
            objects.extend(
                addresses.flat_map(|address| {
                    ports.iter().map(move |port| Object::Connect { address, port: *port })
                }),
            );
        }
    }
    objects
}

fn located(path: &[u8]) -> Located {
    MountTable::single(1).locate(path).remove(0)
}

/// A path that the glob matches.
fn witness(glob: &Glob) -> Vec<u8> {
    path_of(glob, HOME, b"any", 0, b"x")
}

/// Rules about calls and the machine.
const CALLS: &str = r#"version: 1
name: calls
lists: {paths: {keys: [~/.ssh/**]}, hashes: {h: ["0f2f2ea1e1c0ab0fb3d9d7b0cf0b36ea7e50a8e8d0c97ee5a0bb8dcc5d5f2b6a"]}}
defaults: {tool: {action: deny, reason: d}, mcp: {action: record, reason: d, severity: low}}
rules:
  - {id: a, kind: tool, tools: [Bash, Write], when: {programs: [git, /bin/x], words: [push], flags: [-f], writes: [$keys], hosts: ["*.a.b"]}, reason: r}
  - {id: b, kind: tool, action: allow, priority: -3, tools: ["*"], when: {reads: inside_repository, writes: outside_repository}, reason: r}
  - {id: c, kind: tool, tools: [Bash], when: {secrets: any, opaque: [eval]}, mode: monitor, reason: r, only: [{executable: /x}]}
  - {id: d, kind: mcp, action: allow, servers: [{package: {npm: p, version: "1"}, script_sha256: [$h]}, {url: "https://a/b"}], tools: [t], reason: r}
  - {id: e, kind: posture, require: {disk_encryption: true}, on_unknown: allow, reason: r}
"#;

const EVERY_RULE: &str = r#"version: 1
name: every
description: |
  Two
  lines.
mode: monitor # all of them
rules:
  # The first one.
  - id: files
    kind: file
    paths: ["~/.ssh/**", "/etc/*.d/x", '**/.env']
    operations: [read, write, create, delete, rename, link]
    mode: enforce
    severity: high
    reason: Keys stay here.
    except:
      - executable: /usr/bin/ssh
        sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        reason: git
      - executable: /usr/bin/scp
        descendant_of: {executable: "/opt/*/deploy"}
  - id: programs
    kind: exec
    paths: ["/opt/**/nc*"]
    sha256: ["bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]
    reason: x
  - id: net
    kind: connect
    to: [169.254.169.254, 10.0.0.0/8, "fd00::/8"]
    ports: [80, 8000-8999]
    reason: x
  - id: sockets
    kind: connect
    unix: [/run/docker.sock]
    reason: x
    only:
      - descendant_of: {executable: /usr/bin/npm}
      - session: {users: [ada, 1000], groups: ["domain users"], agents: [claude-code], entry_points: [cli], repositories: [github.com/acme/*]}
  - id: jobs
    kind: broker
    brokers: [ssh, at, cron]
    action: record
    reason: x
"#;

const IN_PARTS: &str = "version: 1\nname: parts\ninclude: [\"1\"]\nlists: {addresses: {net: [10.0.0.0/8]}}\nrules:\n  \
                        - {id: a, kind: file, paths: [$keys, /x], reason: x, expires: 2027-03-01}\n\0version: 1\n\
                        lists: {paths: {keys: [~/.ssh/**, $more], more: [/y]}}\nrules:\n  \
                        - {id: b, kind: connect, to: [$net], reason: x, remedy: y, link: \"https://z\", controls: [c]}\n";

/// The shipped policy, one with a rule of every kind, and one in two files.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../policies/baseline.yaml").to_vec(),
        EVERY_RULE.into(),
        IN_PARTS.into(),
        CALLS.into(),
    ]
}

//! Programs that run others: behind their own arguments is the command that they run.

use treeline_policy::tool::Opaque;

use crate::{command::Next, operands::places, programs::Wrapper, walk::Walk, word::Word};

const UNKNOWN: (Next, bool) = (Next::Opaque(Opaque::Wrapper), false);

/// The program that a wrapper runs, and whether the wrapper itself uses no file.
pub(crate) fn run(walk: &mut Walk, wrapper: &Wrapper, arguments: &[Word]) -> (Next, bool) {
    let Some((behind, replaced)) = options(wrapper, arguments) else { return UNKNOWN };
    let has_options = behind.len() < arguments.len();
    let Some(rest) = operands(walk, wrapper, behind) else { return UNKNOWN };
    // `flock FILE -c COMMAND`: no program has such a name.
    if rest.first().is_some_and(|word| word.prefix.starts_with('-')) {
        return UNKNOWN;
    }
    match wrapper.name {
        "flock" => {
            let places = behind.first().map(|lock| places(lock, &walk.directories()));
            walk.features.writes.extend(places.unwrap_or_default());
        }
        // Somebody else's home, or none.
        "sudo" | "doas" => _ = walk.change_home(None),
        "env" | "exec" if has_options => _ = walk.change_home(None),
        _ => {}
    }
    let mut rest = rest.to_vec();
    if let Some(replaced) = replaced {
        let holds = |word: &Word| word.text().is_none_or(|text| text.contains(&replaced));
        for word in rest.iter_mut().filter(|word| holds(word)) {
            // Nor is it certain how it begins: the input can be there.
            *word = Word { is_many: false, ..Word::unknown() };
        }
    } else if wrapper.appends && !rest.is_empty() {
        rest.push(Word::unknown());
    }
    (Next::Run(rest), !wrapper.opens)
}

/// What is behind the options, and which text `xargs` replaces by what it reads; none if an option is not known.
fn options<'w>(wrapper: &Wrapper, arguments: &'w [Word]) -> Option<(&'w [Word], Option<String>)> {
    let (mut rest, mut replaced) = (arguments, None);
    while let Some((first, behind)) = rest.split_first() {
        let text = first.text()?;
        if text == "--" {
            return Some((behind, replaced));
        }
        if !text.starts_with('-') {
            break;
        }
        // To `env` it is an option.
        if text == "-" {
            return None;
        }
        rest = behind;
        let takes_next = match text.strip_prefix("--") {
            Some(option) => long(wrapper, option)?,
            None => match short(wrapper, &text[1..])? {
                Some((letter, attached)) => {
                    if wrapper.name == "xargs" && letter == 'I' {
                        let text = if attached.is_empty() { rest.first()?.text()? } else { attached };
                        replaced = Some(text.to_owned());
                    }
                    attached.is_empty()
                }
                None => false,
            },
        };
        if takes_next {
            let (_, behind) = rest.split_first().filter(|(value, _)| !value.is_many)?;
            rest = behind;
        }
    }
    Some((rest, replaced))
}

/// Whether the value of a long option is the next argument; none if it is no option.
fn long(wrapper: &Wrapper, option: &str) -> Option<bool> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    if wrapper.long_valued.contains(&name) {
        return Some(value.is_none());
    }
    wrapper.long.contains(&name).then_some(false)
}

/// The option with a value among letters, with what of the value is attached; the outer none if one is no option.
fn short<'o>(wrapper: &Wrapper, letters: &'o str) -> Option<Option<(char, &'o str)>> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        if wrapper.letter(letter)? {
            return Some(Some((letter, letters.as_str())));
        }
    }
    Some(None)
}

/// What is behind the arguments of a wrapper's own; none if it cannot be told.
fn operands<'w>(walk: &mut Walk, wrapper: &Wrapper, words: &'w [Word]) -> Option<&'w [Word]> {
    let (own, mut rest) = words.split_at(wrapper.operands.min(words.len()));
    if own.iter().any(|word| word.is_many) {
        return None;
    }
    while let Some((first, behind)) = rest.split_first().filter(|_| wrapper.assigns) {
        let Some((name, value)) = first.prefix.split_once('=') else { break };
        let value = if first.text().is_some() { Word::of(value) } else { Word::unknown() };
        // What is unquoted can be the program, too.
        if first.is_many {
            return None;
        }
        walk.assign(name, &value);
        rest = behind;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::WRAPPERS;

    #[test]
    fn options_of_wrappers() {
        let check = |name: &str, arguments: &[&str], expect: Option<&[&str]>| {
            let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == name).expect("a wrapper");
            let words: Vec<Word> = arguments.iter().map(|word| Word::of(*word)).collect();
            let rest = options(wrapper, &words)
                .map(|(rest, _)| rest.iter().filter_map(Word::text).collect::<Vec<_>>());
            assert_eq!(rest.as_deref(), expect, "{name} {arguments:?}");
        };
        check("sudo", &["-nu", "root", "a", "-b"], Some(&["a", "-b"]));
        check("sudo", &["-uroot", "--", "-a"], Some(&["-a"]));
        check("sudo", &["--user", "root", "a"], Some(&["a"]));
        check("sudo", &["--user=root", "a"], Some(&["a"]));
        check("sudo", &["--us=root", "a"], None);
        check("sudo", &["-s"], None);
        check("sudo", &["-u"], None);
        check("xargs", &["-I", "{}", "a"], Some(&["a"]));
        check("xargs", &["-0n1", "a"], Some(&["a"]));
        check("xargs", &["--max-lines", "a"], Some(&["a"]));
        check("xargs", &["--max-lines=1", "a"], Some(&["a"]));
        check("strace", &["-f", "-o", "|a", "b"], None);
        check("env", &["-", "a"], None);
        check("env", &["-S", "a b"], None);
        check("nohup", &[], Some(&[]));
    }
}

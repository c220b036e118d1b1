//! Python's version order: PEP 440, as the `packaging` library has it.

use std::cmp::Ordering;

/// A version's parts in the order in which they count.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    epoch: Digits,
    /// Without trailing zeroes.
    release: Vec<Digits>,
    pre: Pre,
    /// Nothing comes before every post-release.
    post: Option<Digits>,
    dev: Dev,
    /// Nothing comes before every local version.
    local: Option<Vec<Local>>,
}

/// A number of any length: how many digits it has without leading zeroes, and those.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Digits(usize, String);

impl Digits {
    fn of(text: &str) -> Self {
        let digits = text.trim_start_matches('0');
        Self(digits.len(), digits.to_owned())
    }
}

/// A version that is for developers alone comes before those before the release, which come before the release.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    DevOnly,
    Some(char, Digits),
    Release,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dev {
    Some(Digits),
    None,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Local {
    Letters(String),
    Number(Digits),
}

/// Takes the digits at the start of `rest`.
fn digits<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at_checked(end).filter(|_| end > 0)?;
    *rest = after;
    Some(digits)
}

/// Takes a separator and one of these words, and the number that may follow it after another separator; without a word nothing.
fn word(rest: &mut &str, words: &[&str]) -> Option<(usize, Digits)> {
    let bare = rest.strip_prefix(['.', '-', '_']).unwrap_or(rest);
    let (index, after) = words
        .iter()
        .enumerate()
        .find_map(|(index, word)| Some((index, bare.strip_prefix(word)?)))?;
    let mut number = after.strip_prefix(['.', '-', '_']).unwrap_or(after);
    match digits(&mut number) {
        Some(found) => {
            *rest = number;
            Some((index, Digits::of(found)))
        }
        None => {
            *rest = after;
            Some((index, Digits::default()))
        }
    }
}

fn parse(text: &str) -> Option<Key> {
    let text = text.trim().to_ascii_lowercase();
    let mut rest = text.strip_prefix('v').unwrap_or(&text);
    let mut first = digits(&mut rest)?;
    let mut epoch = Digits::default();
    if let Some(after) = rest.strip_prefix('!') {
        epoch = Digits::of(first);
        rest = after;
        first = digits(&mut rest)?;
    }
    let mut release = vec![Digits::of(first)];
    while let Some(mut after) = rest.strip_prefix('.') {
        let Some(part) = digits(&mut after) else {
            break;
        };
        release.push(Digits::of(part));
        rest = after;
    }
    while release.last().is_some_and(|last| last.0 == 0) {
        release.pop();
    }
    // Longer spellings first: `c` begins none of the others.
    let words = ["alpha", "a", "beta", "b", "preview", "pre", "rc", "c"];
    let pre = word(&mut rest, &words).map(|(index, number)| match index {
        0 | 1 => ('a', number),
        2 | 3 => ('b', number),
        _ => ('r', number),
    });
    let mut post = None;
    if let Some(mut after) = rest.strip_prefix('-')
        && let Some(number) = digits(&mut after)
    {
        post = Some(Digits::of(number));
        rest = after;
    } else if let Some((_, number)) = word(&mut rest, &["post", "rev", "r"]) {
        post = Some(number);
    }
    let dev = word(&mut rest, &["dev"]).map(|(_, number)| number);
    let local = match rest.strip_prefix('+') {
        Some(local) => {
            rest = "";
            Some(parse_local(local)?)
        }
        None => None,
    };
    if !rest.is_empty() {
        return None;
    }
    Some(Key {
        epoch,
        release,
        pre: match (pre, &post, &dev) {
            (Some((kind, number)), ..) => Pre::Some(kind, number),
            (None, None, Some(_)) => Pre::DevOnly,
            (None, ..) => Pre::Release,
        },
        post,
        dev: dev.map_or(Dev::None, Dev::Some),
        local,
    })
}

fn parse_local(local: &str) -> Option<Vec<Local>> {
    local
        .split(['.', '-', '_'])
        .map(|part| {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                None
            } else if part.bytes().all(|byte| byte.is_ascii_digit()) {
                Some(Local::Number(Digits::of(part)))
            } else {
                Some(Local::Letters(part.to_owned()))
            }
        })
        .collect()
}

/// Compares two versions. What is none by PEP 440 comes before what is, as it did in `packaging` while that had an order for
/// such.
#[must_use]
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (None, None) => a.cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

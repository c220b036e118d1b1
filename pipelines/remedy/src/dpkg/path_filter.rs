//! Paths that the administrator told dpkg not to unpack: `path-exclude` and `path-include` (dpkg(1)).

/// Filters in the order of their files; the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub(super) struct PathFilters(Vec<Filter>);

#[derive(Debug, Clone)]
struct Filter {
    pattern: Vec<u8>,
    include: bool,
}

/// Steps of one match: a pattern of many stars cannot stall an injection.
const MAX_STEPS: usize = 100_000;

impl PathFilters {
    /// Adds the filters of one configuration file (dpkg.cfg(5)).
    pub(super) fn add_file(&mut self, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n') {
            let line = line.trim_ascii();
            if line.starts_with(b"#") {
                continue;
            }
            let cut = line
                .iter()
                .position(|&byte| byte == b'=' || byte.is_ascii_whitespace());
            let Some((option, value)) = cut.and_then(|cut| line.split_at_checked(cut)) else {
                continue;
            };
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let value = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value);
            let include = match option {
                b"path-include" => true,
                b"path-exclude" => false,
                _ => continue,
            };
            self.0.push(Filter {
                pattern: value.to_vec(),
                include,
            });
        }
    }

    /// Whether the entry `name` is left out. A directory or link that something below may bring back is kept.
    pub(super) fn leaves_out(&self, name: &[u8], may_hold_others: bool) -> bool {
        let mut out = false;
        for filter in &self.0 {
            // Once it is decided that way, only the other kind can change it.
            if filter.include == out && matches(&filter.pattern, name) {
                out = !filter.include;
            }
        }
        if !out || !may_hold_others {
            return out;
        }
        let brought_back = self.0.iter().filter(|filter| filter.include).any(|filter| {
            let plain = filter
                .pattern
                .iter()
                .position(|byte| b"*?[\\".contains(byte))
                .unwrap_or(filter.pattern.len());
            let mut stem = filter.pattern.get(..plain).unwrap_or_default();
            while let Some(shorter) = stem.strip_suffix(b"/") {
                stem = shorter;
            }
            name.starts_with(stem) || stem.starts_with(&[name, b"/"].concat()) || stem == name
        });
        !brought_back
    }
}

/// fnmatch(3) without flags: `*` and `?` match slashes too; brackets with ranges and `!`; backslash quotes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    for _ in 0..MAX_STEPS {
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, t));
                p = p.saturating_add(1);
                continue;
            }
            (Some(b'?'), Some(_)) => Some(p.saturating_add(1)),
            (Some(b'['), Some(&byte)) => bracket(pattern, p, byte),
            (Some(b'\\'), Some(&byte)) => {
                let quoted = p.saturating_add(1);
                (pattern.get(quoted) == Some(&byte)).then(|| quoted.saturating_add(1))
            }
            (Some(&literal), Some(&byte)) => (literal == byte).then(|| p.saturating_add(1)),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t = t.saturating_add(1);
            }
            (None, Some((at, from))) if from < text.len() => {
                p = at.saturating_add(1);
                t = from.saturating_add(1);
                star = Some((at, t));
            }
            _ => return false,
        }
    }
    false
}

/// Where the pattern goes on when the bracket at `p` admits `byte`.
fn bracket(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    let mut at = p.saturating_add(1);
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at = at.saturating_add(1);
    }
    let first = at;
    let mut found = false;
    loop {
        let &low = pattern.get(at)?;
        if low == b']' && at > first {
            break;
        }
        let next = at.saturating_add(1);
        let after = next.saturating_add(1);
        match (pattern.get(next), pattern.get(after)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                at = after.saturating_add(1);
            }
            _ => {
                found |= low == byte;
                at = next;
            }
        }
    }
    (found != negated).then(|| at.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_filter_counts_and_directories_that_hold_included_files_stay() {
        let mut filters = PathFilters::default();
        filters.add_file(
            b"# slim\npath-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\nlog /x\n",
        );
        assert!(filters.leaves_out(b"/usr/share/doc/a/README", false));
        assert!(!filters.leaves_out(b"/usr/share/doc/a/copyright", false));
        assert!(!filters.leaves_out(b"/usr/share/doc/a", true));
        assert!(!filters.leaves_out(b"/usr/bin/a", false));
    }

    #[test]
    fn patterns_are_fnmatch_s() {
        for (pattern, text, expected) in [
            ("/a/*", "/a/b/c", true),
            ("/a/?", "/a/b", true),
            ("/a/?", "/a/bc", false),
            ("/a/[a-c]x", "/a/bx", true),
            ("/a/[!a-c]x", "/a/bx", false),
            ("/a/[]]", "/a/]", true),
            ("/a/\\*", "/a/*", true),
            ("/a/\\*", "/a/b", false),
            ("*.mo", "/usr/x.mo", true),
            ("*a*b", "/xaxxb", true),
            ("*a*b", "/xaxxbc", false),
            ("[", "x", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(!matches(&b"*a".repeat(5000), &b"a".repeat(4999)));
    }
}

//! Versions of three parts, `[epoch:]version[-release]`, as rpm and pacman split them.

/// The parts of such a version; without an epoch or a release where none is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evr<'a> {
    pub(crate) epoch: Option<&'a str>,
    pub(crate) version: &'a str,
    pub(crate) release: Option<&'a str>,
}

impl<'a> Evr<'a> {
    /// Splits any text: the epoch is what stands before a colon when that is all digits, the release what follows the
    /// last hyphen after it.
    ///
    /// Source: `parseEVR` of librpm and of libalpm, which are the same.
    pub(crate) fn split(text: &'a str) -> Self {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
                (Some(if epoch.is_empty() { "0" } else { epoch }), rest)
            }
            _ => (None, text),
        };
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release)),
            None => (rest, None),
        };
        Self {
            epoch,
            version,
            release,
        }
    }
}

/// How many bytes at the beginning of `text` `wanted` takes, and what follows them.
pub(crate) fn run(text: &[u8], wanted: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|&byte| !wanted(byte))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// Compares two runs of digits as numbers of any length.
pub(crate) fn compare_digits(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let (_, a) = run(a, |byte| byte == b'0');
    let (_, b) = run(b, |byte| byte == b'0');
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_split_as_rpm_splits_them() {
        let parts = |text| {
            let Evr {
                epoch,
                version,
                release,
            } = Evr::split(text);
            (epoch, version, release)
        };
        assert_eq!(parts("1:2.0-3.el9"), (Some("1"), "2.0", Some("3.el9")));
        assert_eq!(parts("2.0"), (None, "2.0", None));
        assert_eq!(parts(":2-1"), (Some("0"), "2", Some("1")));
        assert_eq!(parts("a:2-1"), (None, "a:2", Some("1")));
        assert_eq!(parts("1-2-3"), (None, "1-2", Some("3")));
        assert_eq!(parts(""), (None, "", None));
    }
}

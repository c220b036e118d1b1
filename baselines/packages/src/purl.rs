//! Package URLs, as the purl specification (ECMA-427) spells them.

use std::fmt;

use crate::Family;
use crate::family::Letters;

/// A package URL's parts, not yet encoded; its `Display` is the URL in canonical form. Parts that are empty are left out.
///
/// `pkg:type/namespace/name@version?arch=...&distro=...`
#[derive(Debug, Clone, Copy)]
pub struct Purl<'a> {
    /// The family, which says the type.
    pub family: Family,
    /// The distribution's id, the maker or the scope; segments are separated by slashes.
    pub namespace: &'a str,
    /// The package's name.
    pub name: &'a str,
    /// Its version, as the family's package URLs have it: without an epoch where that is a qualifier.
    pub version: &'a str,
    /// Qualifiers, in the order of their keys.
    pub qualifiers: &'a [(&'a str, &'a str)],
}

/// Characters that stand for themselves: the specification's unreserved ones, and the colon, which it never encodes.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':')
}

/// Appends `text` in the specification's own escapes.
fn push_encoded(out: &mut String, text: &str, letters: Letters) {
    let small = letters == Letters::Small;
    let plain = |byte: u8| stands_for_itself(byte) && !(small && byte.is_ascii_uppercase());
    let mut rest = text;
    while !rest.is_empty() {
        // Most text stands for itself from its beginning to its end.
        let run = rest.bytes().position(|byte| !plain(byte));
        let (run, after) = run
            .and_then(|run| rest.split_at_checked(run))
            .unwrap_or((rest, ""));
        out.push_str(run);
        let mut chars = after.chars();
        match chars.next() {
            Some(c) if c.is_ascii_uppercase() => out.push(c.to_ascii_lowercase()),
            Some(c) => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    out.push('%');
                    for half in [byte >> 4, byte & 0xf] {
                        out.extend(
                            char::from_digit(half.into(), 16).map(|c| c.to_ascii_uppercase()),
                        );
                    }
                }
            }
            None => {}
        }
        rest = chars.as_str();
    }
}

impl Purl<'_> {
    /// The URL. There is one for each of hundreds of packages, so it is put together in memory that is asked for once.
    pub(crate) fn text(&self) -> String {
        // The scheme and type, a mark before each part, and some escapes.
        let parts = [self.namespace, self.name, self.version].into_iter().chain(
            self.qualifiers
                .iter()
                .flat_map(|(key, value)| [*key, *value]),
        );
        let length = parts.fold(32_usize, |sum, part| {
            sum.saturating_add(part.len()).saturating_add(1)
        });
        let mut out = String::with_capacity(length);
        let letters = self.family.purl_letters();
        out.push_str("pkg:");
        out.push_str(self.family.purl_type());
        out.push('/');
        // The namespaces of distributions are small in every type that has them.
        let of_namespace = match self.family.reach() {
            crate::family::Reach::System => Letters::Small,
            crate::family::Reach::Beside => letters,
        };
        for segment in self.namespace.split('/').filter(|part| !part.is_empty()) {
            push_encoded(&mut out, segment, of_namespace);
            out.push('/');
        }
        push_encoded(&mut out, self.name, letters);
        if !self.version.is_empty() {
            out.push('@');
            push_encoded(&mut out, self.version, Letters::AsWritten);
        }
        let mut mark = '?';
        for (key, value) in self.qualifiers {
            if !value.is_empty() {
                out.push(mark);
                out.push_str(key);
                out.push('=');
                push_encoded(&mut out, value, Letters::AsWritten);
                mark = '&';
            }
        }
        out
    }
}

impl fmt::Display for Purl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purl(
        family: Family,
        namespace: &str,
        name: &str,
        version: &str,
        qualifiers: &[(&str, &str)],
    ) -> String {
        let purl = Purl {
            family,
            namespace,
            name,
            version,
            qualifiers,
        };
        assert_eq!(purl.text(), purl.to_string());
        purl.text()
    }

    #[test]
    fn whatever_does_not_stand_for_itself_is_escaped_byte_by_byte() {
        assert_eq!(
            purl(Family::Dpkg, "", "A+bC+ü€", "1.0 Ü%", &[]),
            "pkg:deb/a%2Bbc%2B%C3%BC%E2%82%AC@1.0%20%C3%9C%25"
        );
        assert_eq!(
            purl(Family::Rpm, "", "Abc++", "", &[("arch", "X")]),
            "pkg:rpm/Abc%2B%2B?arch=X"
        );
    }

    #[test]
    fn packages_are_spelled_as_the_specification_does() {
        let of = [("arch", "amd64"), ("distro", "debian-12")];
        assert_eq!(
            purl(Family::Dpkg, "debian", "openssl", "3.0.11-1~deb12u2", &of),
            "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12"
        );
        assert_eq!(
            purl(
                Family::Dpkg,
                "Debian",
                "libstdc++6",
                "1:2.4.47-2+b1",
                &[("arch", "")]
            ),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.4.47-2%2Bb1"
        );
        assert_eq!(
            purl(
                Family::Dpkg,
                "",
                "a",
                "",
                &[("arch", ""), ("distro", "x y")]
            ),
            "pkg:deb/a?distro=x%20y"
        );
        // The examples of the specification's own pages on rpm, apk and alpm.
        assert_eq!(
            purl(
                Family::Rpm,
                "Fedora",
                "curl",
                "7.50.3-1.fc25",
                &[("arch", "i386"), ("distro", "fedora-25")]
            ),
            "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&distro=fedora-25"
        );
        assert_eq!(
            purl(
                Family::Rpm,
                "centerim",
                "perl-Moose",
                "4.22.10-1.el6",
                &[("arch", "i686"), ("epoch", "1")]
            ),
            "pkg:rpm/centerim/perl-Moose@4.22.10-1.el6?arch=i686&epoch=1"
        );
        assert_eq!(
            purl(
                Family::Apk,
                "alpine",
                "curl",
                "7.83.0-r0",
                &[("arch", "x86")]
            ),
            "pkg:apk/alpine/curl@7.83.0-r0?arch=x86"
        );
        assert_eq!(
            purl(
                Family::Pacman,
                "arch",
                "containers-common",
                "1:0.47.4-4",
                &[("arch", "x86_64")]
            ),
            "pkg:alpm/arch/containers-common@1:0.47.4-4?arch=x86_64"
        );
    }
}

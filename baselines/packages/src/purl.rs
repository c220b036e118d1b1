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

/// Text in the specification's own escapes.
struct Encoded<'a>(&'a str, Letters);

/// Bytes that stand for themselves: the specification's unreserved ones, and the colon, which it never encodes.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':')
}

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for byte in self.0.bytes() {
            let byte = match self.1 {
                Letters::Small => byte.to_ascii_lowercase(),
                Letters::AsWritten => byte,
            };
            if stands_for_itself(byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Purl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.family.purl_letters();
        write!(f, "pkg:{}/", self.family.purl_type())?;
        // The namespaces of distributions are small in every type that has them.
        let of_namespace = match self.family.reach() {
            crate::family::Reach::System => Letters::Small,
            crate::family::Reach::Beside => letters,
        };
        for segment in self.namespace.split('/').filter(|part| !part.is_empty()) {
            write!(f, "{}/", Encoded(segment, of_namespace))?;
        }
        write!(f, "{}", Encoded(self.name, letters))?;
        if !self.version.is_empty() {
            write!(f, "@{}", Encoded(self.version, Letters::AsWritten))?;
        }
        let mut mark = '?';
        for (key, value) in self.qualifiers {
            if !value.is_empty() {
                write!(f, "{mark}{key}={}", Encoded(value, Letters::AsWritten))?;
                mark = '&';
            }
        }
        Ok(())
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
        purl.to_string()
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

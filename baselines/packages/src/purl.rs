//! Package URLs, as the purl specification (ECMA-427) spells them.

/// Bytes that stand for themselves: the specification's unreserved ones, and the colon, which it never encodes.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':')
}

fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if stands_for_itself(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

/// `pkg:type/namespace/name@version?arch=...&distro=...`; parts that are empty are left out.
#[must_use]
pub fn purl(
    kind: &str,
    namespace: &str,
    name: &str,
    version: &str,
    architecture: &str,
    distro: &str,
) -> String {
    let mut out = format!("pkg:{kind}/");
    if !namespace.is_empty() {
        encode(&namespace.to_ascii_lowercase(), &mut out);
        out.push('/');
    }
    encode(&name.to_ascii_lowercase(), &mut out);
    if !version.is_empty() {
        out.push('@');
        encode(version, &mut out);
    }
    let mut mark = '?';
    for (key, value) in [("arch", architecture), ("distro", distro)] {
        if !value.is_empty() {
            out.push(mark);
            out.push_str(key);
            out.push('=');
            encode(value, &mut out);
            mark = '&';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_packages_are_spelled_as_the_specification_does() {
        assert_eq!(
            purl(
                "deb",
                "debian",
                "openssl",
                "3.0.11-1~deb12u2",
                "amd64",
                "debian-12"
            ),
            "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12"
        );
        assert_eq!(
            purl("deb", "Debian", "libstdc++6", "1:2.4.47-2+b1", "", ""),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.4.47-2%2Bb1"
        );
        assert_eq!(
            purl("deb", "", "a", "", "", "x y"),
            "pkg:deb/a?distro=x%20y"
        );
    }
}

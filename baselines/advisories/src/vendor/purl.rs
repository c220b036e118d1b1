//! Package URLs, as far as statements name packages by them (the purl specification, "How to parse").

use dormouse_packages::Family;

use crate::judgement::canonical_name;
use crate::statement::{Claim, Names};
use crate::target::BY_PURL;

/// What a package URL names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackageUrl {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) qualifiers: Vec<(String, String)>,
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

impl PackageUrl {
    /// Reads one; `None` for text that is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split('#').next()?;
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        // An npm scope is written `%40`; some write it as `@`, which no version begins with.
        let at = rest.rfind('@').filter(|at| {
            let before = rest.get(..*at).unwrap_or_default();
            !before.is_empty() && !before.ends_with('/')
        });
        let (path, version) = match at {
            Some(at) => (rest.get(..at)?, rest.get(at.checked_add(1)?..)?),
            None => (rest, ""),
        };
        let (kind, path) = path.split_once('/')?;
        let (namespace, name) = path
            .trim_matches('/')
            .rsplit_once('/')
            .unwrap_or(("", path));
        let mut found = Self {
            kind: kind.to_ascii_lowercase(),
            namespace: decoded(namespace)?,
            name: decoded(name.trim_matches('/'))?,
            version: decoded(version)?,
            qualifiers: Vec::new(),
        };
        for pair in qualifiers.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            found
                .qualifiers
                .push((key.to_ascii_lowercase(), decoded(value)?));
        }
        (!found.name.is_empty()).then_some(found)
    }

    pub(super) fn qualifier(&self, key: &str) -> &str {
        let found = self.qualifiers.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn family(&self) -> Option<Family> {
        if self.kind == "generic" {
            return None;
        }
        Family::all().find(|family| family.purl_type() == self.kind)
    }

    /// The package's name in its family.
    pub(super) fn package(&self, family: Family) -> String {
        let name = match family {
            Family::Go | Family::Npm if !self.namespace.is_empty() => {
                format!("{}/{}", self.namespace, self.name)
            }
            _ => self.name.clone(),
        };
        canonical_name(family, &name)
    }

    /// The version with its epoch.
    pub(super) fn full_version(&self) -> String {
        match self.qualifier("epoch") {
            "" | "0" => self.version.clone(),
            epoch => format!("{epoch}:{}", self.version),
        }
    }

    /// The release: `purl/debian:12` of `distro=debian-12`, else the namespace, whatever its version.
    fn release(&self, family: Family) -> String {
        format!("{BY_PURL}{}", self.system(family))
    }

    fn system(&self, family: Family) -> String {
        if !matches!(
            family,
            Family::Dpkg | Family::Rpm | Family::Apk | Family::Pacman
        ) {
            return String::new();
        }
        let distro = self.qualifier("distro");
        if let Some((id, version)) = distro.rsplit_once('-')
            && version.starts_with(|c: char| c.is_ascii_digit())
        {
            return format!("{id}:{version}");
        }
        match (distro, self.namespace.as_str()) {
            ("", "") => String::new(),
            // A codename, as purl's own examples write it.
            (codename, id) if !codename.is_empty() && !id.is_empty() => format!("{id}:{codename}"),
            ("", id) | (id, _) => format!("{id}:"),
        }
    }

    /// That its version, or every one where it names none, is affected; `None` for what no inventory here has.
    pub(super) fn claim(&self) -> Option<Claim> {
        let family = self.family()?;
        let names = match self.qualifier("arch") {
            "src" | "source" => Names::Source,
            _ => Names::Binary,
        };
        let mut claim = Claim::new(family, &self.package(family), names, &self.release(family));
        if names == Names::Binary {
            self.qualifier("arch").clone_into(&mut claim.architectures);
        }
        if !self.version.is_empty() {
            let version = self.full_version();
            let version = match family {
                Family::Go => version.strip_prefix('v').unwrap_or(&version).to_owned(),
                _ => version,
            };
            claim.introduced.clone_from(&version);
            claim.last_affected = version;
        }
        Some(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_read_as_their_specification_has_them() {
        let purl =
            PackageUrl::parse("pkg:rpm/redhat/bind-libs@9.11.4-26.P2.el7?arch=x86_64&epoch=32")
                .unwrap();
        assert_eq!(purl.family(), Some(Family::Rpm));
        assert_eq!(purl.full_version(), "32:9.11.4-26.P2.el7");
        let claim = purl.claim().unwrap();
        assert_eq!(
            (claim.release.as_str(), claim.architectures.as_str()),
            ("purl/redhat:", "x86_64")
        );
        let npm = PackageUrl::parse("pkg:npm/%40angular/animation@12.3.1").unwrap();
        assert_eq!(npm.package(Family::Npm), "@angular/animation");
        let plain = PackageUrl::parse("pkg:npm/@angular/animation").unwrap();
        assert_eq!(
            (plain.package(Family::Npm).as_str(), plain.version.as_str()),
            ("@angular/animation", "")
        );
        let go = PackageUrl::parse("pkg:golang/github.com/gin-gonic/gin@v1.9.0#sub/path").unwrap();
        let claim = go.claim().unwrap();
        assert_eq!(
            (claim.package.as_str(), claim.introduced.as_str()),
            ("github.com/gin-gonic/gin", "1.9.0")
        );
        let deb = PackageUrl::parse(
            "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12",
        )
        .unwrap();
        let claim = deb.claim().unwrap();
        assert_eq!(
            (claim.package.as_str(), claim.release.as_str()),
            ("libstdc++6", "purl/debian:12")
        );
        let python = PackageUrl::parse("pkg:pypi/Zope.Interface")
            .unwrap()
            .claim()
            .unwrap();
        assert_eq!(python.package, "zope-interface");
        for text in [
            "",
            "pkg:",
            "pkg:deb",
            "pkg:deb/",
            "deb/debian/a",
            "pkg:deb/a%zz",
            "pkg:deb/a?b",
        ] {
            assert_eq!(PackageUrl::parse(text), None, "{text}");
        }
        assert!(
            PackageUrl::parse("pkg:generic/a")
                .unwrap()
                .claim()
                .is_none()
        );
    }
}

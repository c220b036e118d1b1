//! The control archive of a package file: its fields and its other members.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_packages::deb822;

use super::tar::{Kind, Tar};
use super::{Conffile, Identity, Limits};

/// Longest name of a control member that dpkg accepts (its `MAXCONTROLFILENAME`).
const MAX_MEMBER_NAME: usize = 100;
/// Members of a control archive. Real ones have fewer than 20.
const MAX_MEMBERS: usize = 1000;

/// One file of a control archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlMember {
    /// Permission bits, which dpkg keeps in `info/`.
    pub mode: u16,
    /// Owner, as the archive has it.
    pub uid: u32,
    /// Group, as the archive has it.
    pub gid: u32,
    /// Last change, which dpkg keeps in `info/`.
    pub mtime: i64,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// Reads all members.
pub(super) fn read(
    decoded: Box<dyn Read + '_>,
    limits: &Limits,
) -> Result<BTreeMap<String, ControlMember>> {
    let mut tar = Tar::new(decoded, limits.control);
    let mut members = BTreeMap::new();
    while let Some(header) = tar.next_entry()? {
        if header.path.is_root() && header.kind == Kind::Directory {
            continue;
        }
        let name = header.path.to_string();
        let name = name.strip_prefix('/').unwrap_or(&name);
        if header.kind != Kind::File || name.contains('/') {
            return Err(Error::corrupt(format!(
                "the control archive holds {name}, which is no plain file"
            )));
        }
        if name.len() > MAX_MEMBER_NAME || members.len() >= MAX_MEMBERS {
            return Err(Error::limit(
                "too many or too long names in a control archive",
            ));
        }
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(super::tar::decoding)?;
        let member = ControlMember {
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            bytes: bytes.into(),
        };
        if members.insert(name.to_owned(), member).is_some() {
            return Err(Error::corrupt(format!(
                "the control archive holds {name} twice"
            )));
        }
    }
    Ok(members)
}

/// Reads the `conffiles` member, as dpkg does.
pub(super) fn conffiles(members: &BTreeMap<String, ControlMember>) -> Result<Vec<Conffile>> {
    let Some(member) = members.get("conffiles") else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for line in member.bytes.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        let (path, remove_on_upgrade) = match line.strip_prefix(b"remove-on-upgrade ") {
            Some(path) => (path, true),
            None => (line, false),
        };
        if !path.starts_with(b"/") {
            return Err(Error::corrupt("a conffile that is no absolute path"));
        }
        let path = GuestPath::new(path)
            .map_err(|error| Error::corrupt("a bad conffile name").because(error))?;
        out.push(Conffile {
            path,
            remove_on_upgrade,
        });
    }
    Ok(out)
}

/// The fields of a control file, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    fields: Vec<(String, String)>,
}

impl Control {
    /// Reads one paragraph.
    ///
    /// # Errors
    /// `Corrupt` for malformed lines, duplicate fields, several paragraphs, text that is not UTF-8, and for a missing or
    /// malformed `Package`, `Version` or `Architecture`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut paragraphs = deb822::paragraphs(bytes);
        let (_, paragraph) = paragraphs
            .next()
            .ok_or_else(|| Error::corrupt("an empty control file"))?;
        if paragraphs.next().is_some() {
            return Err(Error::corrupt("a control file of several paragraphs"));
        }
        let mut fields: Vec<(String, String)> = Vec::new();
        for field in paragraph.fields() {
            let field = field?;
            if fields.iter().any(|(name, _)| field.is(name)) {
                return Err(Error::corrupt(format!(
                    "a control file with two fields {}",
                    field.name
                )));
            }
            fields.push((field.name.to_owned(), field.text()?.to_owned()));
        }
        let control = Self { fields };
        let name = control.package();
        let good = |text: &str, more: &[u8]| {
            text.as_bytes()
                .first()
                .is_some_and(u8::is_ascii_alphanumeric)
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if name.len() < 2 || !good(name, b"-+.") {
            return Err(Error::corrupt("a control file without a valid Package"));
        }
        if !good(control.architecture(), b"-") {
            return Err(Error::corrupt(
                "a control file without a valid Architecture",
            ));
        }
        dormouse_packages::dpkg::Version::parse(control.version()).map_err(|error| {
            Error::corrupt("a control file without a valid Version").because(error)
        })?;
        Ok(control)
    }

    /// The value of the field `name`; names compare without regard to case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `Package`.
    #[must_use]
    pub fn package(&self) -> &str {
        self.get("Package").unwrap_or_default()
    }

    /// `Version`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.get("Version").unwrap_or_default()
    }

    /// `Architecture`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.get("Architecture").unwrap_or_default()
    }

    /// Whether it is `Multi-Arch: same`.
    #[must_use]
    pub fn multi_arch_same(&self) -> bool {
        self.get("Multi-Arch") == Some("same")
    }

    /// `Installed-Size` in KiB, 0 where there is none.
    #[must_use]
    pub fn installed_size(&self) -> u64 {
        self.get("Installed-Size")
            .and_then(|size| size.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Refuses a package that says of itself other than the index does.
    pub(super) fn agrees_with(&self, identity: &Identity) -> Result<()> {
        for (field, said, expected) in [
            ("Package", self.package(), &identity.name),
            ("Version", self.version(), &identity.version),
            ("Architecture", self.architecture(), &identity.architecture),
        ] {
            if said != expected {
                return Err(Error::corrupt(format!(
                    "the index has {field} {expected}, the package file says {said}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &[u8] =
        b"Package: a-b\nVersion: 1:2-3\nArchitecture: amd64\nInstalled-Size: 12\nDescription: x\n long\n";

    #[test]
    fn fields_keep_order_and_compare_without_case() {
        let control = Control::parse(CONTROL).unwrap();
        assert_eq!(control.get("installed-size"), Some("12"));
        assert_eq!(control.installed_size(), 12);
        assert_eq!(control.get("Description"), Some("x\n long"));
        assert_eq!(control.fields().count(), 5);
    }

    #[test]
    fn what_is_no_control_file_is_refused() {
        for bad in [
            &b""[..],
            b"Package: a-b\n",
            b"Package: a\nVersion: 1\nArchitecture: all\n",
            b"Package: a_b\nVersion: 1\nArchitecture: all\n",
            b"Package: ../../x\nVersion: 1\nArchitecture: all\n",
            b"Package: ab\nVersion: a b\nArchitecture: all\n",
            b"Package: ab\nVersion: 1\nArchitecture: a/b\n",
            b"Package: ab\nVersion: 1\nVersion: 2\nArchitecture: all\n",
            b"Package: ab\nVersion: 1\nArchitecture: all\n\nPackage: c\n",
            b"Package: ab\nVersion: 1\nArchitecture: all\nX: \xff\n",
        ] {
            assert!(
                Control::parse(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn a_package_that_is_not_what_the_index_says_is_refused_by_name() {
        let control = Control::parse(CONTROL).unwrap();
        let mut identity = Identity {
            name: "a-b".into(),
            version: "1:2-3".into(),
            architecture: "amd64".into(),
        };
        control.agrees_with(&identity).unwrap();
        identity.version = "1:2-4".into();
        let error = control.agrees_with(&identity).unwrap_err();
        assert!(error.to_string().contains("1:2-4"), "{error}");
    }
}

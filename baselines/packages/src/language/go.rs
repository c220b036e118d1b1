//! Go programs: the build information that the linker leaves in them (`debug/buildinfo`, `runtime/debug.BuildInfo`).

use dormouse_block::{Error, Result, slice_at};
use dormouse_filesystem::Guest;

use super::binaries::each;
use super::elf::{Elf, pointer};
use crate::cataloger::Cost;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// What the section begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Largest build information read, in bytes. Kubernetes' has some 30 KiB.
const MAX_INFORMATION: u64 = 8 << 20;
/// Modules of one program.
const MAX_MODULES: usize = 20_000;
/// Bytes before and after the modules, by which the linker finds them.
const SENTINEL: usize = 16;

/// The version of Go and the text of the modules; `None` for a program that is not Go's.
fn information(elf: &mut Elf<'_>) -> Result<Option<(String, String)>> {
    let Some((_, offset, size)) = elf.section(".go.buildinfo")? else {
        return Ok(None);
    };
    let bytes = elf.at(offset, size.min(MAX_INFORMATION))?;
    if !bytes.starts_with(MAGIC) {
        return Err(Error::corrupt("Go build information that is none"));
    }
    let [width, flags] = *slice_at(&bytes, 14, 2)? else {
        return Ok(None);
    };
    let (version, modules) = if flags & 2 != 0 {
        // From Go 1.18 on both stand here, with their lengths before them.
        let mut rest = slice_at(&bytes, 32, bytes.len().saturating_sub(32))?;
        (counted(&mut rest)?, counted(&mut rest)?)
    } else {
        let (width, big_endian) = (usize::from(width), flags & 1 != 0);
        let mut string = |at: usize| {
            let header = pointer(&bytes, at, width, big_endian)?;
            string_at(elf, header, width, big_endian)
        };
        (string(16)?, string(width.saturating_add(16))?)
    };
    // Without its sentinels; a program built without modules has none.
    let modules = modules
        .get(SENTINEL..modules.len().saturating_sub(SENTINEL))
        .filter(|text| text.ends_with(b"\n"))
        .unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some((text(&version), text(modules))))
}

/// A string with its length before it, 7 bits a byte.
fn counted(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let mut length = 0_u64;
    for shift in (0..63).step_by(7) {
        let Some((&byte, after)) = rest.split_first() else {
            return Err(Error::corrupt("Go build information ends early"));
        };
        *rest = after;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((text, after)) = rest.split_at_checked(length) else {
                return Err(Error::corrupt("Go build information ends early"));
            };
            *rest = after;
            return Ok(text.to_vec());
        }
    }
    Err(Error::corrupt(
        "Go build information with an impossible length",
    ))
}

/// The string whose header, a pointer and a length, is at an address.
fn string_at(elf: &mut Elf<'_>, header: u64, width: usize, big_endian: bool) -> Result<Vec<u8>> {
    if header == 0 {
        return Ok(Vec::new());
    }
    let both = u64::try_from(width.saturating_mul(2)).unwrap_or(16);
    let bytes = elf.at_address(header, both)?;
    let address = pointer(&bytes, 0, width, big_endian)?;
    let length = pointer(&bytes, width, width, big_endian)?;
    if length > MAX_INFORMATION {
        return Err(Error::limit("Go build information of more than 8 MiB"));
    }
    if length == 0 {
        return Ok(Vec::new());
    }
    elf.at_address(address, length)
}

/// `go1.21rc2` as the order of versions has it: `1.21.0-rc.2`; with what a distribution adds to it left out.
fn release(version: &str) -> Option<String> {
    let version = version.strip_prefix("go")?;
    let version = version.split([' ', '-', '+']).next()?;
    let end = version
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(version.len());
    let (numbers, stage) = version.split_at_checked(end)?;
    if stage.is_empty() {
        return Some(numbers.to_owned());
    }
    let digits = stage
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(stage.len());
    let (word, number) = stage.split_at_checked(digits)?;
    let numbers = if numbers.matches('.').count() < 2 {
        format!("{numbers}.0")
    } else {
        numbers.to_owned()
    };
    Some(format!("{numbers}-{word}.{number}"))
}

fn module(path: &str, version: &str) -> Package {
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    let purl = Purl {
        family: Family::Go,
        namespace,
        name,
        // The program's own module when it was built from a working tree.
        version: if version == "(devel)" { "" } else { version },
        qualifiers: &[],
    };
    Package::new(Family::Go, path, version, "", &purl)
}

/// The modules of a program: its own first, those replaced by others as what they were replaced by, and the library of Go itself.
fn modules(version: &str, text: &str) -> Result<Vec<Package>> {
    let mut all: Vec<Package> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let (path, of) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        match kind {
            "mod" | "dep" if !path.is_empty() => {
                if all.len() >= MAX_MODULES {
                    return Err(Error::limit("more than 20000 modules in one Go program"));
                }
                all.push(module(path, if of.is_empty() { "(devel)" } else { of }));
            }
            "=>" => {
                if let Some(last) = all.last_mut() {
                    let replaced = (last.name.clone(), last.version.clone());
                    *last = module(path, if of.is_empty() { "(devel)" } else { of });
                    (last.source_name, last.source_version) = replaced;
                }
            }
            _ => {}
        }
    }
    all.extend(release(version).map(|release| module("stdlib", &release)));
    Ok(all)
}

/// The cataloger of Go programs.
pub(crate) struct Go;

impl Cataloger for Go {
    fn family(&self) -> Family {
        Family::Go
    }

    fn cost(&self) -> Cost {
        Cost::Walk
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        each(guest, |elf| match information(elf)? {
            Some((version, text)) => modules(&version, &text),
            None => Ok(Vec::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_own_versions_are_put_in_order() {
        assert_eq!(release("go1.21.5").as_deref(), Some("1.21.5"));
        assert_eq!(release("go1.21rc2").as_deref(), Some("1.21.0-rc.2"));
        assert_eq!(
            release("go1.20.3 X:boringcrypto").as_deref(),
            Some("1.20.3")
        );
        assert_eq!(release("devel go1.19-abc"), None);
    }
}

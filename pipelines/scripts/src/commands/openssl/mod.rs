//! `openssl rehash`: the links by which OpenSSL finds certificates by their subjects (openssl-rehash(1)).
//!
//! Every other command of openssl needs keys or random numbers and is left to the machine.

mod subject;

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding as _};
use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;
use sha1::{Digest as _, Sha1};

use crate::shell::Shell;
use crate::stop::Run;

/// Certificates with one hash that openssl gives links to.
const MAX_SAME: usize = 256;
const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// A file that has, or had, a link.
struct Linked {
    file: Vec<u8>,
    digest: Option<[u8; 20]>,
    /// The number of the link there is.
    old: Option<u32>,
    needed: bool,
}

pub(crate) fn openssl(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.iter().skip(1).map(Vec::as_slice);
    if rest.next() != Some(b"rehash") {
        return shell.usage(
            b"openssl",
            "only rehash is interpreted: the rest needs keys or chance",
        );
    }
    let mut folders = Vec::new();
    for word in rest {
        match word {
            b"-v" => {}
            option if option.starts_with(b"-") => {
                return shell.usage(b"openssl", "options of rehash that are not interpreted");
            }
            folder => folders.push(folder.to_vec()),
        }
    }
    if folders.is_empty() {
        return shell.usage(b"openssl", "rehash of its own default folder");
    }
    let verbose = words.iter().any(|word| word == b"-v");
    for folder in folders {
        rehash(shell, &folder, verbose)?;
    }
    Ok(0)
}

/// `xxxxxxxx.N`: a hash and a number.
fn link_name(name: &[u8]) -> Option<(u32, u32)> {
    let (hash, number) = name.split_at_checked(8)?;
    let number = number.strip_prefix(b".")?;
    let hexadecimal = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    if !hexadecimal(hash) || number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let hash = u32::from_str_radix(std::str::from_utf8(hash).ok()?, 16).ok()?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((hash, number))
}

fn rehash(shell: &mut Shell<'_>, folder: &[u8], verbose: bool) -> Run<()> {
    let Ok(names) = shell.files.list(folder)? else {
        return shell.usage(b"openssl", "rehash of a folder that is not there");
    };
    if verbose {
        shell.out(&[b"Doing ", folder, b"\n"].concat())?;
    }
    let mut by_hash: BTreeMap<u32, Vec<Linked>> = BTreeMap::new();
    for name in names {
        let path = [folder, b"/", &name].concat();
        let Some(found) = shell.files.look(&path, Follow::No)? else {
            continue;
        };
        if let DraftNode::Symlink(target) = &found.node {
            if is_crl_link(&name) {
                return shell.usage(b"openssl", "links to revocation lists");
            }
            if let Some((hash, number)) = link_name(&name) {
                note_link(by_hash.entry(hash).or_default(), target, number);
                continue;
            }
        }
        if let Some((hash, digest)) = certificate(shell, &path, &name)? {
            let linked = by_hash.entry(hash).or_default();
            if !note_file(linked, &name, digest) {
                let text = format!(
                    "warning: skipping duplicate certificate in {}",
                    String::from_utf8_lossy(&name)
                );
                shell.complain(b"rehash", text)?;
            }
        }
    }
    for (hash, linked) in by_hash {
        relink(shell, folder, hash, &linked, verbose)?;
    }
    Ok(())
}

fn is_crl_link(name: &[u8]) -> bool {
    let plain = [
        name.get(..9).unwrap_or_default(),
        name.get(10..).unwrap_or_default(),
    ]
    .concat();
    name.get(9) == Some(&b'r') && link_name(&plain).is_some()
}

/// A link that is there. What it leads to is known by its name alone.
fn note_link(linked: &mut Vec<Linked>, target: &[u8], number: u32) {
    match linked.iter_mut().find(|one| one.file == target) {
        Some(one) => one.old = Some(one.old.map_or(number, |old| old.min(number))),
        None => linked.push(Linked {
            file: target.to_vec(),
            digest: None,
            old: Some(number),
            needed: false,
        }),
    }
}

/// A file with a certificate; whether it is not one that another file has.
fn note_file(linked: &mut Vec<Linked>, name: &[u8], digest: [u8; 20]) -> bool {
    if linked.iter().any(|one| one.digest == Some(digest)) {
        return false;
    }
    match linked.iter_mut().find(|one| one.file == name) {
        Some(one) => {
            if !one.needed {
                one.digest = Some(digest);
            }
            one.needed = true;
        }
        None => linked.push(Linked {
            file: name.to_vec(),
            digest: Some(digest),
            old: None,
            needed: true,
        }),
    }
    true
}

/// Keeps the links that are right, makes those that are missing, removes those that lead nowhere any more.
fn relink(
    shell: &mut Shell<'_>,
    folder: &[u8],
    hash: u32,
    linked: &[Linked],
    verbose: bool,
) -> Run<()> {
    let needed = linked.iter().filter(|one| one.needed).count();
    if needed > MAX_SAME {
        return shell.usage(b"openssl", "more than 256 certificates of one subject");
    }
    // A link stays if its number is below that of the certificates.
    let kept = |one: &Linked| {
        one.old
            .filter(|old| usize::try_from(*old).is_ok_and(|old| old < needed))
    };
    let mut taken: Vec<u32> = linked.iter().filter_map(kept).collect();
    let mut next = 0_u32;
    for one in linked {
        let name = |number: u32| format!("{hash:08x}.{number}");
        let path = |number: u32| [folder, b"/", name(number).as_bytes()].concat();
        if let Some(number) = kept(one) {
            // As it is.
            if verbose {
                let line = [
                    b"link ",
                    one.file.as_slice(),
                    b" -> ",
                    name(number).as_bytes(),
                    b"\n",
                ]
                .concat();
                shell.out(&line)?;
            }
        } else if one.needed {
            while taken.contains(&next) {
                next = next.saturating_add(1);
            }
            let at = path(next);
            if verbose {
                let line = [
                    b"link ",
                    one.file.as_slice(),
                    b" -> ",
                    name(next).as_bytes(),
                    b"\n",
                ]
                .concat();
                shell.out(&line)?;
            }
            if shell.files.exists(&at, Follow::No)? {
                // What cannot be removed cannot be replaced, and the link fails.
                let _ = shell.files.unlink(&at)?;
            }
            if shell.files.make_symlink(&one.file, &at)?.is_err() {
                return shell.usage(b"openssl", "a link that cannot be made");
            }
            taken.push(next);
        } else if let Some(number) = one.old {
            let at = path(number);
            if verbose {
                let line = [b"unlink ", name(number).as_bytes(), b"\n"].concat();
                shell.out(&line)?;
            }
            let _ = shell.files.unlink(&at)?;
        }
    }
    Ok(())
}

/// The subject's hash and the fingerprint of the one certificate in a file; `None` for a file that has none or several.
fn certificate(shell: &mut Shell<'_>, path: &[u8], name: &[u8]) -> Run<Option<(u32, [u8; 20])>> {
    let ending = name
        .rsplit(|&byte| byte == b'.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if !name.contains(&b'.') || !matches!(ending.as_slice(), b"pem" | b"crt" | b"cer" | b"crl") {
        return Ok(None);
    }
    let Ok(bytes) = shell.files.read(path)? else {
        // A dangling link: openssl says so and goes on.
        let text = format!(
            "error: skipping {}, cannot open file",
            String::from_utf8_lossy(name)
        );
        shell.complain(b"rehash", text)?;
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut certificates = Vec::new();
    let mut rest = text.as_ref();
    while let Some(at) = rest.find(BEGIN) {
        rest = rest
            .get(at.saturating_add(BEGIN.len())..)
            .unwrap_or_default();
        let Some((label, after)) = rest.split_once(DASHES) else {
            break;
        };
        if label != "CERTIFICATE" {
            return shell.usage(b"openssl", format!("rehash of a file with a {label}"));
        }
        let Some((body, after)) = after.split_once("-----END CERTIFICATE-----") else {
            return shell.usage(b"openssl", "rehash of a certificate that ends early");
        };
        certificates.push(body);
        rest = after;
    }
    let [body] = certificates.as_slice() else {
        let text = format!(
            "warning: skipping {},it does not contain exactly one certificate or CRL",
            String::from_utf8_lossy(name)
        );
        shell.complain(b"rehash", text)?;
        return Ok(None);
    };
    let plain: String = body
        .chars()
        .filter(|sign| !sign.is_ascii_whitespace())
        .collect();
    let hash = Base64::decode_vec(&plain)
        .ok()
        .and_then(|der| Some((subject::hash(&der)?, Sha1::digest(&der).into())));
    match hash {
        Some(hash) => Ok(Some(hash)),
        None => shell.usage(b"openssl", "rehash of a broken certificate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_by_their_names() {
        assert_eq!(link_name(b"002c0b4f.0"), Some((0x2c_0b4f, 0)));
        assert_eq!(link_name(b"FFFFFFFF.12"), Some((u32::MAX, 12)));
        for name in [
            &b"002c0b4f"[..],
            b"002c0b4f.",
            b"002c0b4g.0",
            b"x.0",
            b"002c0b4f.r0",
        ] {
            assert_eq!(link_name(name), None);
        }
        assert!(is_crl_link(b"002c0b4f.r0"));
        assert!(!is_crl_link(b"002c0b4f.0"));
    }
}

//! Flatpaks: what is deployed below `/var/lib/flatpak`.
//!
//! `{app,runtime}/ID/ARCH/BRANCH/active` leads to the commit in use, in which `metadata` is a key file. A flatpak has a branch
//! and a commit; the version that its maker gives it stands only in its own files.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// The installation of the whole system. Those of users are below their homes and are not looked for.
const INSTALLATION: &str = "/var/lib/flatpak";
/// Largest key file read, in bytes.
const MAX_METADATA: u64 = 1 << 20;
/// Deployments read.
const MAX_DEPLOYMENTS: usize = 20_000;

/// The folders of a folder, in the order of their names.
fn folders(guest: &Guest, path: &GuestPath) -> Result<Vec<(String, GuestPath)>> {
    let mut all = Vec::new();
    for entry in guest.read_dir(path)?.unwrap_or_default() {
        let Ok(path) = path.join(&entry.name) else {
            continue;
        };
        let metadata = guest.metadata(&path, Follow::No)?;
        if metadata.is_some_and(|metadata| metadata.kind == NodeKind::Directory) {
            all.push((String::from_utf8_lossy(&entry.name).into_owned(), path));
        }
    }
    all.sort();
    Ok(all)
}

/// The value of `key` in the first group of a key file that is named `group`.
fn value<'a>(text: &'a str, group: &str, key: &str) -> Option<&'a str> {
    let mut within = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            within = name == group;
        } else if within
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

/// One deployment: what `active` leads to.
fn deployment(
    guest: &Guest,
    kind: &str,
    names: [&str; 3],
    folder: &GuestPath,
) -> Result<Option<(Package, GuestPath)>> {
    let [id, architecture, branch] = names;
    let bad = |error| Error::corrupt("bad path").because(error);
    let active = folder.join("active").map_err(bad)?;
    let Some(target) = guest.read_link(&active)? else {
        return Ok(None);
    };
    let target = String::from_utf8_lossy(&target).into_owned();
    let commit = target.rsplit('/').next().unwrap_or_default();
    let metadata = active.join("metadata").map_err(bad)?;
    let Some(bytes) = guest.read(&metadata, MAX_METADATA)? else {
        return Err(Error::corrupt("a deployed flatpak has no metadata"));
    };
    let text = String::from_utf8_lossy(&bytes);
    let group = if kind == "app" {
        "Application"
    } else {
        "Runtime"
    };
    let Some(name) = value(&text, group, "name") else {
        return Err(Error::corrupt("a deployed flatpak's metadata has no name"));
    };
    let purl = Purl {
        family: Family::Flatpak,
        namespace: "flatpak",
        name,
        version: branch,
        qualifiers: &[("arch", architecture), ("commit", commit)],
    };
    let mut package = Package::new(Family::Flatpak, name, branch, architecture, &purl);
    package.source_name = value(&text, group, "runtime").unwrap_or(id).to_owned();
    package.source_version = commit.to_owned();
    package.module = Some(kind.to_owned());
    package.location = Some(folder.clone());
    Ok(Some((package, metadata)))
}

/// The cataloger of flatpaks.
pub(crate) struct Flatpaks;

impl Cataloger for Flatpaks {
    fn family(&self) -> Family {
        Family::Flatpak
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let bad = |error| Error::corrupt("bad path").because(error);
        let root = GuestPath::new(INSTALLATION).map_err(bad)?;
        if guest.metadata(&root, Follow::Links)?.is_none() {
            return Ok(None);
        }
        let mut catalogue = Catalogue::default();
        for kind in ["app", "runtime"] {
            for (id, path) in folders(guest, &root.join(kind).map_err(bad)?)? {
                for (architecture, path) in folders(guest, &path)? {
                    for (branch, path) in folders(guest, &path)? {
                        if catalogue.files.len() >= MAX_DEPLOYMENTS {
                            return Err(Error::limit("more than 20000 flatpaks"));
                        }
                        match deployment(guest, kind, [&id, &architecture, &branch], &path) {
                            Ok(Some((package, file))) => {
                                catalogue.packages.insert(package);
                                catalogue.files.push((file, 1));
                            }
                            Ok(None) => {}
                            Err(error) => catalogue.gap(error, &path)?,
                        }
                    }
                }
            }
        }
        Ok(Some(catalogue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_filesystem::MemoryTree;

    #[test]
    fn what_is_deployed_and_in_use_is_told() {
        let base = "/var/lib/flatpak/app/org.gnome.Maps/x86_64/stable";
        let platform = "/var/lib/flatpak/runtime/org.gnome.Platform/x86_64/45";
        let mut tree = MemoryTree::new();
        tree.file(
            &format!("{base}/abc123/metadata"),
            b"[Application]\nname=org.gnome.Maps\nruntime=org.gnome.Platform/x86_64/45\n[Context]\nname=no\n",
        )
        .file(&format!("{base}/older/metadata"), b"[Application]\nname=org.gnome.Maps\n")
        .symlink(&format!("{base}/active"), "abc123")
        .file(&format!("{platform}/def/metadata"), b"[Runtime]\nname=org.gnome.Platform\n")
        .symlink(&format!("{platform}/active"), "def")
        .directory("/var/lib/flatpak/app/gone/x86_64/stable")
        .file("/var/lib/flatpak/app/bad/x86_64/stable/c/metadata", b"[x]")
        .symlink("/var/lib/flatpak/app/bad/x86_64/stable/active", "c");
        let catalogue = Flatpaks.catalogue(&Guest::of(tree), None).unwrap().unwrap();
        let all: Vec<&str> = catalogue
            .packages
            .iter()
            .map(|package| package.purl.as_str())
            .collect();
        assert_eq!(
            all,
            [
                "pkg:generic/flatpak/org.gnome.Maps@stable?arch=x86_64&commit=abc123",
                "pkg:generic/flatpak/org.gnome.Platform@45?arch=x86_64&commit=def",
            ]
        );
        assert_eq!(catalogue.gaps.len(), 1);
        assert!(
            Flatpaks
                .catalogue(&Guest::of(MemoryTree::new()), None)
                .unwrap()
                .is_none()
        );
    }
}

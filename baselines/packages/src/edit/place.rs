//! Where edits may be made.

use dormouse_block::GuestPath;

/// Directories that a machine at rest does not have, and package databases, with why nothing in them is edited.
const FORBIDDEN: &[(&str, &str)] = &[
    ("/dev", "is made anew at every boot"),
    ("/proc", "is made anew at every boot"),
    ("/run", "is made anew at every boot"),
    ("/sys", "is made anew at every boot"),
    ("/var/run", "is made anew at every boot"),
    ("/var/lib/dpkg", "is a package database"),
    ("/var/lib/rpm", "is a package database"),
    ("/usr/lib/sysimage/rpm", "is a package database"),
    ("/lib/apk/db", "is a package database"),
    ("/usr/lib/apk/db", "is a package database"),
    ("/var/lib/pacman", "is a package database"),
];

/// Why nothing at a path is edited, if so.
pub(super) fn why_not_to_be_edited(path: &GuestPath) -> Option<&'static str> {
    FORBIDDEN.iter().find_map(|(folder, why)| {
        let folder = GuestPath::new(folder).ok()?;
        path.starts_with(&folder).then_some(*why)
    })
}

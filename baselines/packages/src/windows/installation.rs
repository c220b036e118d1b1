//! What Windows says it is.

use dormouse_block::Result;
use dormouse_filesystem::Guest;

use super::config::open_system;
use super::regf::{Hive, Key};
use crate::OsRelease;

/// Where it says so in `SOFTWARE`.
const CURRENT_VERSION: &str = r"Microsoft\Windows NT\CurrentVersion";
/// The first build of Windows 11, whose `ProductName` still says 10.
const WINDOWS_11: u32 = 22_000;

/// The text of a value; nothing where there is none or it is no text.
pub(super) fn text(key: &Key<'_>, name: &str) -> Result<Option<String>> {
    match key.value(name)? {
        Some(value) => Ok(value.text()?.filter(|text| !text.is_empty())),
        None => Ok(None),
    }
}

/// The number of a value; nothing where there is none or it is no number.
pub(super) fn number(key: &Key<'_>, name: &str) -> Result<Option<u32>> {
    match key.value(name)? {
        Some(value) => value.number(),
        None => Ok(None),
    }
}

/// The identity of the Windows of a guest, in the terms of os-release(5): `windows`, `10.0.19045.3448`, the edition's id
/// and the product's name; `None` for a guest without a `SOFTWARE` hive.
///
/// # Errors
/// As opening that hive.
pub(crate) fn identity(guest: &Guest) -> Result<Option<OsRelease>> {
    match open_system(guest, "SOFTWARE")? {
        Some(software) => of_software(&software.hive).map(Some),
        None => Ok(None),
    }
}

fn of_software(hive: &Hive) -> Result<OsRelease> {
    let mut os = OsRelease {
        id: "windows".into(),
        ..OsRelease::default()
    };
    let Some(key) = hive.key(CURRENT_VERSION)? else {
        return Ok(os);
    };
    let build = match text(&key, "CurrentBuildNumber")? {
        Some(build) => Some(build),
        None => text(&key, "CurrentBuild")?,
    };
    let lab = text(&key, "BuildLabEx")?.unwrap_or_default();
    let lab: Vec<&str> = lab.split('.').collect();
    // From 10 on `CurrentVersion` stays at 6.3.
    let kernel = match (
        number(&key, "CurrentMajorVersionNumber")?,
        number(&key, "CurrentMinorVersionNumber")?,
    ) {
        (Some(major), Some(minor)) => Some(format!("{major}.{minor}")),
        _ => text(&key, "CurrentVersion")?,
    };
    let revision = match (number(&key, "UBR")?, lab.as_slice()) {
        (Some(revision), _) => Some(revision.to_string()),
        // Before 8.1 the laboratory's name of the build is all that says it.
        (None, [of, revision, ..]) if Some(*of) == build.as_deref() => Some((*revision).to_owned()),
        _ => None,
    };
    os.version_id = kernel.map(|kernel| {
        let parts = [Some(kernel), build.clone(), revision];
        parts.into_iter().flatten().collect::<Vec<_>>().join(".")
    });
    os.variant_id = text(&key, "EditionID")?;
    let client = text(&key, "InstallationType")?.is_none_or(|kind| kind == "Client");
    let newer = build
        .and_then(|build| build.parse().ok())
        .is_some_and(|build: u32| build >= WINDOWS_11);
    os.pretty_name = match text(&key, "ProductName")? {
        Some(name) if client && newer => Some(name.replacen("Windows 10", "Windows 11", 1)),
        name => name,
    };
    let release = match text(&key, "DisplayVersion")? {
        None => text(&key, "ReleaseId")?,
        display => display,
    };
    for more in [release, text(&key, "CSDVersion")?].into_iter().flatten() {
        if let Some(name) = &mut os.pretty_name {
            name.push(' ');
            name.push_str(&more);
        }
    }
    Ok(os)
}

/// The architectures of a Windows, in purl's words: its own first. From the control set that it boots with by default,
/// or else from the name of its build.
///
/// # Errors
/// As opening the `SYSTEM` hive.
pub(super) fn architectures(guest: &Guest, software: &Hive) -> Result<Vec<String>> {
    let mut own = None;
    if let Some(system) = open_system(guest, "SYSTEM")?
        && let Some(select) = system.hive.key("Select")?
    {
        let set = match number(&select, "Default")? {
            Some(set) => Some(set),
            None => number(&select, "Current")?,
        };
        if let Some(set) = set
            && let Some(key) = system.hive.key(&format!(
                r"ControlSet{set:03}\Control\Session Manager\Environment"
            ))?
        {
            own = text(&key, "PROCESSOR_ARCHITECTURE")?;
        }
    }
    if own.is_none()
        && let Some(key) = software.key(CURRENT_VERSION)?
    {
        let lab = text(&key, "BuildLabEx")?.unwrap_or_default();
        let word = lab.split('.').nth(2).unwrap_or_default();
        own = ["amd64", "arm64", "x86", "ia64"]
            .into_iter()
            .find(|name| word.starts_with(name))
            .map(str::to_owned);
    }
    let own = own.map(|own| own.to_ascii_lowercase());
    let beside = own.as_deref().is_some_and(|own| own.ends_with("64"));
    Ok(own
        .into_iter()
        .chain(beside.then(|| "x86".to_owned()))
        .collect())
}

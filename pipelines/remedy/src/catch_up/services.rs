//! The services that have old files loaded once a catch-up's packages are installed.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Result;
use dormouse_packages::dpkg::RelationField;

use super::Wake;
use super::script::check_word;
use crate::dpkg::fixed;

/// Largest list of a package's files read, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// The services of the packages that are upgraded, and of those that need one of them.
pub(super) fn services(wake: &Wake<'_>) -> Result<BTreeSet<String>> {
    let mut affected: BTreeSet<String> = wake
        .plan
        .packages
        .iter()
        .map(|package| package.name.clone())
        .collect();
    let mut needed_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in wake.database.records() {
        for field in [RelationField::Depends, RelationField::PreDepends] {
            for relation in record.relations(field)? {
                for wanted in relation.alternatives() {
                    needed_by
                        .entry(wanted.name.clone())
                        .or_default()
                        .insert(record.name.clone());
                }
            }
        }
    }
    let mut todo: Vec<String> = affected.iter().cloned().collect();
    while let Some(name) = todo.pop() {
        for dependent in needed_by.get(&name).into_iter().flatten() {
            if affected.insert(dependent.clone()) {
                todo.push(dependent.clone());
            }
        }
    }
    let mut units = BTreeSet::new();
    for record in wake.database.records() {
        if !affected.contains(&record.name) || !record.status.state.has_files() {
            continue;
        }
        let list = fixed(&format!("/var/lib/dpkg/info/{}.list", record.info_name()))?;
        let Some(bytes) = wake.guest.read(&list, MAX_LIST)? else {
            continue;
        };
        for path in String::from_utf8_lossy(&bytes).lines() {
            let unit = path
                .strip_prefix("/usr")
                .unwrap_or(path)
                .strip_prefix("/lib/systemd/system/");
            if let Some(unit) = unit.filter(|unit| unit.ends_with(".service"))
                && !unit.contains(['/', '@'])
                && check_word(unit).is_ok()
            {
                units.insert(unit.to_owned());
            }
        }
    }
    Ok(units)
}

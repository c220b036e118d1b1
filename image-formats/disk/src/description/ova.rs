//! OVA: an envelope, its manifest and its files in one tar archive, read in place.

use dormouse_block::{Error, Result, window};

use super::tar::{self, Member};
use super::{Described, Kind, manifest, ovf, text_of};
use crate::{DiskPlace, MachineDescription};

/// The kind.
pub(super) struct Ova;

impl Kind for Ova {
    fn name(&self) -> &'static str {
        "ova"
    }

    /// The envelope comes first, as the specification demands.
    fn probe(&self, head: &[u8]) -> bool {
        tar::first_name(head).is_some_and(|name| ends_in(&name, ".ovf"))
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let members = tar::members(&*file.source)?;
        let text = |member: &Member| -> Result<String> {
            text_of(&window(file.source.clone(), member.offset, member.size)?)
        };
        let ending = |ending: &str| members.iter().find(|member| ends_in(&member.name, ending));
        let envelope =
            ending(".ovf").ok_or_else(|| Error::corrupt("there is no envelope in the archive"))?;
        let mut machine = ovf::machine(&text(envelope)?, &file.stem(), &|href| {
            place(&members, href).unwrap_or_else(|| {
                let why = format!("{:?} is not in the archive", super::shown(href));
                DiskPlace::Elsewhere(why)
            })
        })?;
        if let Some(certificate) = ending(".cert") {
            machine.notes.push(ovf::not_verified(&certificate.name));
        }
        match ending(".mf") {
            Some(list) => {
                machine.manifest = manifest::parse(&text(list)?, &|name| {
                    place(&members, name).ok_or_else(|| {
                        Error::corrupt(format!(
                            "the manifest names {:?}, which is not in the archive",
                            super::shown(name)
                        ))
                    })
                })?;
            }
            None => machine.notes.push("it has no manifest".to_owned()),
        }
        Ok(machine)
    }
}

fn ends_in(name: &str, ending: &str) -> bool {
    name.len() > ending.len() && name.to_ascii_lowercase().ends_with(ending)
}

fn place(members: &[Member], name: &str) -> Option<DiskPlace> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let member = members.iter().find(|member| member.name == name)?;
    Some(DiskPlace::Member {
        name: member.name.clone(),
        offset: member.offset,
        size: member.size,
    })
}

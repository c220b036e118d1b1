//! LUKS1 and LUKS2: volumes encrypted with a key that passphrases and key files unlock.

use dormouse_block::{Gap, Result};
use dormouse_encryption::{Budget, Luks as Header};

use crate::joined::join;
use crate::{Found, Keys, Note, Placement, Volume, VolumeSystem};

/// The volume system.
pub(crate) struct Luks;

impl VolumeSystem for Luks {
    fn name(&self) -> &'static str {
        "luks"
    }

    fn find(&self, candidates: &[Volume], keys: &Keys) -> Found {
        let mut found = Found::default();
        let mut budget = Budget::default();
        for (position, volume) in candidates.iter().enumerate() {
            let header = match Header::find(&*volume.source) {
                Ok(None) => continue,
                Ok(Some(header)) => Ok(header),
                Err(error) => Err(error),
            };
            found.claimed.push(position);
            match header.and_then(|header| open(volume, &header, keys, &mut budget, &mut found)) {
                Ok(opened) => found.volumes.push(opened),
                Err(error) => {
                    found.gaps.push(Gap::from_error(&error, &volume.locator()));
                    found.volumes.push(volume.settled());
                }
            }
        }
        found
    }
}

/// The volume inside of `volume`.
fn open(
    volume: &Volume,
    header: &Header,
    keys: &Keys,
    budget: &mut Budget,
    found: &mut Found,
) -> Result<Volume> {
    let key = header.unlock(&*volume.source, keys, budget)?;
    let parts = header.parts(&volume.source, &key)?;
    found.notes.extend(header.note().map(|what| Note {
        at: volume.locator(),
        what: what.to_owned(),
    }));
    let mut inside = Volume::made(
        "luks",
        format!("{}/luks", volume.info.name),
        volume,
        join(parts)?,
        Placement::Bound("it is encrypted".to_owned()),
    );
    inside.info.layout = Some(header.version().to_owned());
    inside.info.device_names = vec![format!("/dev/mapper/luks-{}", header.uuid())];
    inside.sector_size = volume.sector_size;
    Ok(inside)
}

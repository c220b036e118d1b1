//! The seam of volume systems and the table of those that are read.

use dormouse_block::Gap;

use crate::foreign::Foreign;
use crate::gpt::Gpt;
use crate::luks::Luks;
use crate::lvm::Lvm;
use crate::mbr::Mbr;
use crate::md::Md;
use crate::{Keys, Note, Volume};

/// Every volume system, in the order of asking: what mirrors whole disks shows their partition tables through, a GPT's
/// protective MBR is an MBR too, and volume groups lie on all others.
pub static SYSTEMS: &[&dyn VolumeSystem] = &[&Md, &Gpt, &Mbr, &Foreign, &Luks, &Lvm];

/// What divides or joins volumes into others.
pub trait VolumeSystem: Sync {
    /// Its short name, which is part of its volumes' names.
    fn name(&self) -> &'static str;

    /// The volumes that it makes of `candidates`, all of them at once; `keys` unlock what is encrypted. What it says
    /// counts only when it claims a candidate, and then the others are asked anew.
    fn find(&self, candidates: &[Volume], keys: &Keys) -> Found;
}

/// What a volume system makes of the volumes it was given.
#[derive(Default)]
pub struct Found {
    /// Positions of the candidates that it consists of: they are no volumes of their own any more.
    pub claimed: Vec<usize>,
    /// The volumes inside.
    pub volumes: Vec<Volume>,
    /// What is broken or not read.
    pub gaps: Vec<Gap>,
    /// What is odd, and hides nothing.
    pub notes: Vec<Note>,
}

//! The seam of volume systems and the table of those that are read.

use dormouse_block::Gap;

use crate::foreign::Foreign;
use crate::gpt::Gpt;
use crate::mbr::Mbr;
use crate::{Note, Volume};

/// Every volume system, in the order of asking: a GPT's protective MBR is an MBR too.
pub static SYSTEMS: &[&dyn VolumeSystem] = &[&Gpt, &Mbr, &Foreign];

/// What divides or joins volumes into others.
pub trait VolumeSystem: Sync {
    /// Its short name, which is part of its volumes' names.
    fn name(&self) -> &'static str;

    /// The volumes that it makes of `candidates`, all of them at once.
    fn find(&self, candidates: &[Volume]) -> Found;
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

//! The log: metadata that was changed and may not be in its place yet, replayed in memory.
//!
//! The log is a ring of basic blocks of 512 bytes. Each *record* begins with a header; the first four bytes of every
//! block hold the number of the *cycle* that wrote it, which tells where the ring's head is. Records carry *operations*
//! of transactions; a transaction that was committed holds *items*: parts of buffers, inodes, and what was intended.

mod buffer;
mod inode;
mod intent;
mod item;
mod record;
mod ring;
mod transaction;

use dormouse_block::{Error, Result, Source};

use self::item::Player;
use self::record::Record;
use self::ring::{Ring, Work};
use self::transaction::Transactions;
use super::superblock::Superblock;
use super::volume::Changes;

pub(super) use self::intent::Pending;

/// What replaying a log comes to.
#[derive(Default)]
pub(super) struct Replay {
    /// Whether there was work in it.
    pub(super) dirty: bool,
    /// Sectors that it changes.
    pub(super) changes: Changes,
    /// Changes of files that were begun and not finished.
    pub(super) pending: Pending,
}

/// Reads the log of the filesystem on `source`.
///
/// # Errors
/// `Unsupported` for a log on another device or with what is not known, `Corrupt` for a broken one.
pub(super) fn replay(source: &dyn Source, sb: &Superblock) -> Result<Replay> {
    if sb.log_start == 0 {
        // Whether there is work in it cannot be told from here.
        return Err(Error::unsupported("an XFS whose log is on another device"));
    }
    let start = sb.extent(sb.log_start, u64::from(sb.log_blocks))?;
    let ring = Ring::new(source, sb, start);
    let Some(work) = ring.work()? else {
        return Ok(Replay::default());
    };
    sb.features.check_log()?;
    let mut player = Player::new(source, sb);
    // First which buffers are cancelled, then everything else, as the kernel does.
    let work = first_pass(&ring, work, &mut player)?;
    let mut transactions = Transactions::default();
    ring.each(work, |record| {
        transactions.add(&record, |lsn, items| player.play(lsn, items))
    })?;
    let (changes, intents) = player.finish();
    Ok(Replay {
        dirty: true,
        changes,
        pending: intents.pending(sb)?,
    })
}

/// Gathers what is cancelled. The oldest records may be overwritten already by ones that were never complete, just
/// before the crash: these are skipped.
fn first_pass(ring: &Ring<'_>, mut work: Work, player: &mut Player<'_>) -> Result<Work> {
    loop {
        player.forget();
        let mut transactions = Transactions::default();
        let mut last = work.tail;
        let result = ring.each(work, |record: Record| {
            last = record.next;
            transactions.add(&record, |_, items| player.note_cancelled(&items))
        });
        let Err(error) = result else {
            return Ok(work);
        };
        match ring.after_overwritten(work, last)? {
            Some(tail) => work.tail = tail,
            None => return Err(error),
        }
    }
}

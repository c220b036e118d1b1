//! How Windows left the volume: the dirty flag, the log's restart pages, and the file of hibernated memory.

use dormouse_block::{Result, array_at, le_u16, le_u32, le_u64};

use super::record::fix;
use crate::Left;

/// `$VOLUME_INFORMATION`: chkdsk is to run.
const DIRTY: u16 = 1;
/// Restart area: the volume was clean when the log was closed.
const CLEAN: u16 = 2;
/// Nobody has the log open.
const NOBODY: u16 = 0xFFFF;

/// What the flags of `$VOLUME_INFORMATION` and the beginning of `$LogFile` say; `None` is clean.
///
/// # Errors
/// `Corrupt` when the volume's information is too short.
pub(super) fn unclean(information: &[u8], log: &[u8]) -> Result<Option<String>> {
    if le_u16(information, 10)? & DIRTY != 0 {
        return Ok(Some(
            "the volume is marked dirty: Windows would check it before use, and what is read may be stale or inconsistent"
                .to_owned(),
        ));
    }
    Ok(match open_log(log) {
        Log::Closed => None,
        Log::Open => Some(
            "its log was not closed and is not replayed: the newest changes of names and sizes may be missing"
                .to_owned(),
        ),
        Log::Fast => Some(
            "its log was left as fast startup leaves it: the newest changes may be in hibernated memory alone"
                .to_owned(),
        ),
    })
}

enum Log {
    Closed,
    Open,
    /// Version 2, which Windows 8 and later keep only while the volume is in use or the kernel hibernates.
    Fast,
}

/// Reads the newer one of the two restart pages.
fn open_log(log: &[u8]) -> Log {
    if log.iter().all(|byte| *byte == 0xFF) || log.is_empty() {
        // Emptied, as mkntfs and ntfs-3g leave it.
        return Log::Closed;
    }
    let first = page(log, 0);
    let second = match &first {
        Some(first) => page(log, first.size),
        None => page(log, 4096),
    };
    let newest = [first, second]
        .into_iter()
        .flatten()
        .max_by_key(|page| page.lsn);
    match newest {
        Some(page) if page.closed => Log::Closed,
        Some(page) if page.major >= 2 => Log::Fast,
        _ => Log::Open,
    }
}

struct Page {
    size: usize,
    lsn: u64,
    major: u16,
    closed: bool,
}

fn page(log: &[u8], at: usize) -> Option<Page> {
    let head = log.get(at..)?;
    let size = usize::try_from(le_u32(head, 16).ok()?).ok()?;
    let mut bytes = head.get(..size)?.to_vec();
    let magic: [u8; 4] = array_at(&bytes, 0).ok()?;
    if magic != *b"RSTR" && magic != *b"CHKD" {
        return None;
    }
    fix(&mut bytes, &magic).ok()?;
    let area = usize::from(le_u16(&bytes, 24).ok()?);
    let field = |offset: usize| le_u16(&bytes, area.saturating_add(offset)).ok();
    Some(Page {
        size,
        lsn: le_u64(&bytes, area).ok()?,
        major: le_u16(&bytes, 28).ok()?,
        closed: field(12)? == NOBODY || field(14)? & CLEAN != 0,
    })
}

/// What the first bytes of `hiberfil.sys` say. A file that was read back (`wake`) or emptied holds no system any more.
pub(super) fn hibernated(head: &[u8]) -> Option<Left> {
    let what = match head.get(..4)? {
        b"hibr" | b"HIBR" => {
            "Windows is hibernated, or was shut down with fast startup: hiberfil.sys holds its memory (hibr)"
        }
        b"RSTR" | b"rstr" => {
            "Windows was being read back from hiberfil.sys, which still holds its memory (rstr)"
        }
        _ => return None,
    };
    Some(Left::Hibernated(what.to_owned()))
}

/// Bytes of the log that are read: both restart pages of the usual size.
pub(super) const LOG_HEAD: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(major: u8, clients: u16, flags: u8) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[..4].copy_from_slice(b"RSTR");
        page[4] = 30;
        page[6] = 9;
        page[16..20].copy_from_slice(&4096_u32.to_le_bytes());
        page[24] = 64;
        page[28] = major;
        page[64] = 7;
        page[76..78].copy_from_slice(&clients.to_le_bytes());
        page[78] = flags;
        [page, vec![0xFF; 4096]].concat()
    }

    #[test]
    fn an_open_log_a_dirty_flag_and_fast_startup_are_told_apart() {
        let clean = [0; 12];
        let mut dirty = [0; 12];
        dirty[10] = 1;
        let empty = vec![0xFF; LOG_HEAD];
        let told = |information: &[u8], log: &[u8]| unclean(information, log).unwrap();
        assert_eq!(told(&clean, &empty), None);
        assert!(told(&dirty, &empty).unwrap().contains("dirty"));
        assert_eq!(told(&clean, &restart(1, 0xFFFF, 0)), None);
        assert_eq!(told(&clean, &restart(1, 0, 2)), None);
        assert!(told(&clean, &restart(1, 0, 0)).unwrap().contains("log"));
        assert!(
            told(&clean, &restart(2, 0, 0))
                .unwrap()
                .contains("fast startup")
        );
        assert!(told(&clean, &vec![0; LOG_HEAD]).is_some());
    }

    #[test]
    fn only_a_file_that_holds_memory_is_hibernation() {
        assert!(hibernated(b"hibr....").is_some());
        assert!(hibernated(b"HIBR....").is_some());
        assert!(hibernated(b"wake....").is_none());
        assert!(hibernated(&[0; 8]).is_none());
        assert!(hibernated(b"").is_none());
    }
}

//! Power evidence at the level of files: who holds an image open.
//!
//! QEMU, and every tool of its family, marks what it does with an image by read locks on single bytes of the file,
//! taken through open file descriptions (`block/file-posix.c`): byte 100 + p says "I use permission p", byte 200 + p
//! says "nobody else may". Asking needs no right to write, and holding one keeps a machine from starting on the file.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// First byte of "permission in use"; `RAW_LOCK_PERM_BASE`.
const USED: i64 = 100;
/// First byte of "permission denied to others"; `RAW_LOCK_SHARED_BASE`.
const UNSHARED: i64 = 200;
/// `BLK_PERM_CONSISTENT_READ` is bit 0.
const CONSISTENT_READ: i64 = 0;
/// `BLK_PERM_WRITE` is bit 1.
const WRITE: i64 = 1;
/// `BLK_PERM_RESIZE` is bit 3.
const RESIZE: i64 = 3;

/// A program that may write a file of the image, most often a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The file.
    pub path: PathBuf,
    /// The process, where the host says: locks of open file descriptions have none.
    pub process: Option<u32>,
    /// What it does.
    pub doing: &'static str,
}

impl Owner {
    /// The program that may write `file`, if one has locked it as QEMU does, or has locked all of it.
    ///
    /// # Errors
    /// `Io` when the host cannot be asked.
    pub fn of(file: &HostFile) -> Result<Option<Self>> {
        const ASKED: [(i64, i64, &str); 3] = [
            (USED + WRITE, 1, "writes it"),
            (USED + RESIZE, 1, "resizes it"),
            // Other hypervisors lock the file from its first byte.
            (0, 1, "has locked it"),
        ];
        for (start, len, doing) in ASKED {
            if let Some(process) = test(file, start, len)? {
                return Ok(Some(Self {
                    path: file.path().to_owned(),
                    process,
                    doing,
                }));
            }
        }
        Ok(lock_folder(file.path()).then(|| Self {
            path: file.path().to_owned(),
            process: None,
            doing: "has left a lock beside it (the folder .lck of VMware)",
        }))
    }
}

/// Whether VMware's folder of locks stands beside the image with a lock in it. It outlives a host that crashed, and
/// only whoever knows that the machine is off may remove it.
fn lock_folder(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push(".lck");
    std::fs::read_dir(name).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                Path::new(&entry.file_name()).extension() == Some("lck".as_ref())
            })
        })
    })
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process} {}", self.doing),
            None => write!(f, "a running program {}", self.doing),
        }
    }
}

/// While it lives, programs that heed QEMU's locks can read the file but not write or resize it. It ends with the
/// file's last handle too, so it keeps one.
#[derive(Debug)]
pub struct ReadLock {
    _file: Arc<HostFile>,
}

impl ReadLock {
    /// Locks `file` as QEMU locks a backing file.
    ///
    /// # Errors
    /// `Denied` when a program may write it, `Io` when the host cannot lock.
    pub fn take(file: &Arc<HostFile>) -> Result<Self> {
        // As QEMU does: say what is wanted first, then look whether anybody minds, so that two cannot both pass.
        for start in [USED + CONSISTENT_READ, UNSHARED + WRITE, UNSHARED + RESIZE] {
            let lock = flock(libc::F_RDLCK, start, 1)?;
            match fcntl(file.descriptor(), FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(owned(file, "a running program has locked it"));
                }
                Err(errno) => return Err(failed(file, errno)),
            }
        }
        match Owner::of(file)? {
            Some(owner) => Err(owned(file, &owner.to_string())),
            None => Ok(Self {
                _file: file.clone(),
            }),
        }
    }
}

fn owned(file: &HostFile, who: &str) -> Error {
    Error::denied(format!("the image is in use: {who}")).in_file(file.path().display())
}

fn failed(file: &HostFile, errno: Errno) -> Error {
    Error::io("cannot ask about locks", errno.into()).in_file(file.path().display())
}

fn flock(kind: i32, start: i64, len: i64) -> Result<libc::flock> {
    let short = |value: i32| {
        i16::try_from(value).map_err(|_| Error::unsupported("this host's locks are unknown"))
    };
    Ok(libc::flock {
        l_type: short(kind)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: start,
        l_len: len,
        l_pid: 0,
    })
}

/// `Some` when somebody else's lock would conflict with an exclusive one, with its process if the host knows it.
fn test(file: &HostFile, start: i64, len: i64) -> Result<Option<Option<u32>>> {
    let mut lock = flock(libc::F_WRLCK, start, len)?;
    fcntl(file.descriptor().as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(|errno| failed(file, errno))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some(
        u32::try_from(lock.l_pid)
            .ok()
            .filter(|&process| process > 0),
    ))
}

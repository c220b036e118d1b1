//! `helpztags` of folders that hold no help: Debian's vim calls it for a folder of add-ons that few machines have.

use crate::shell::Shell;
use crate::stop::Run;

pub(crate) fn helpztags(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    for folder in words.iter().skip(1) {
        if !shell.files.is_directory(folder)? {
            continue;
        }
        let names = shell.files.list(folder)?.unwrap_or_default();
        let holds_help = names
            .iter()
            .any(|name| name.ends_with(b".txt") || name.ends_with(b".gz") || name.ends_with(b"x"));
        if holds_help {
            return shell.usage(b"helpztags", "making tags is not interpreted");
        }
        shell.out(&[b"Processing ", &folder[..], b"\n"].concat())?;
    }
    Ok(0)
}

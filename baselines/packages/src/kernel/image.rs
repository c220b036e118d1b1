//! What an image of a Linux kernel says of itself in its head.

use dormouse_block::{Result, le_u16, slice_at};
use dormouse_filesystem::{Follow, Guest};

use super::{MODULES, path};

/// Bytes of an image's head: the setup code of x86, in which the version stands, has at most 64 sectors.
const HEAD: usize = 64 * 512;

/// Which build of `release` lies on disk: what stands behind the `#` in the image's own version
/// (`Documentation/arch/x86/boot.rst`, field `kernel_version`). `None` for images of other processors, which keep none in
/// the clear, and where there is no such image.
///
/// # Errors
/// What reading the guest returns.
pub fn build_on_disk(guest: &Guest, release: &str) -> Result<Option<String>> {
    let mut names = vec![format!("/boot/vmlinuz-{release}")];
    names.extend(MODULES.map(|folder| format!("{folder}/{release}/vmlinuz")));
    if let Some((_, flavour)) = release.rsplit_once('-') {
        names.push(format!("/boot/vmlinuz-{flavour}"));
    }
    for name in names {
        let Some(found) = guest.resolve(&path(&name)?, Follow::Links)? else {
            continue;
        };
        let Some(mount) = guest.mounts().get(found.mount) else {
            continue;
        };
        let mut head = vec![0; HEAD];
        let read = mount.tree.read_at(found.node, 0, &mut head)?;
        head.truncate(read);
        if let Some(build) = build_in(&head, release) {
            return Ok(Some(build));
        }
    }
    Ok(None)
}

fn build_in(head: &[u8], release: &str) -> Option<String> {
    if slice_at(head, 0x202, 4).ok()? != b"HdrS" {
        return None;
    }
    let at = usize::from(le_u16(head, 0x20e).ok()?).checked_add(0x200)?;
    let text = head.get(at..)?;
    let text = text.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    let (of, rest) = text.split_once(' ')?;
    let number = rest.find('#')?;
    (of == release).then(|| rest.get(number..).map(str::to_owned))?
}

//! Files of packages that were written to the image ahead of the draft, and are put in their places by it.

use super::{Bench, MAX_REPEATED, PatchOptions, SharedEditor, carry_out, draft, lock};
use dormouse_block::Digest;
use dormouse_block::Error;
use dormouse_block::GuestPath;
use dormouse_block::Result;
use dormouse_overlay::Content;
use dormouse_overlay::Difference;
use dormouse_overlay::DraftNode;
use dormouse_overlay::PayloadReader;
use dormouse_overlay::Staged;
use dormouse_overlay::Supply;
use dormouse_remedy::Injected;
use dormouse_remedy::Injection;
use dormouse_remedy::Plan;
use dormouse_remedy::WHOLE_PACKAGE;
use dormouse_remedy::deb::Unpacked;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

/// Drafts the injection of what was staged and carries it out.
pub(super) fn inject_staged(
    bench: &Bench,
    plan: &Plan,
    staged: &Arc<StagedSet>,
    options: &PatchOptions,
) -> Result<Injection> {
    let unpacked = staged.unpacked.clone();
    let reader = staged_reader(bench, staged);
    let injected = draft(plan, bench, &unpacked, reader, options)?;
    let differences = injected.draft.differences()?;
    let repeated = repeated(&injected, &differences)?;
    {
        let draft = &injected.draft;
        let mut taken: HashMap<FileKey, ()> = HashMap::new();
        let mut supply = |mount: usize, content: &Content| -> Result<Supply<'_>> {
            let Content::Payload {
                payload, offset, ..
            } = content
            else {
                return Ok(Supply::Reader(draft.open(content)?));
            };
            if *offset == WHOLE_PACKAGE {
                return Ok(Supply::Reader(draft.open(content)?));
            }
            let key = (*payload, *offset);
            if let Some(bytes) = repeated.get(&key)
                && taken.insert(key, ()).is_some()
            {
                return Ok(Supply::Reader(Box::new(std::io::Cursor::new(
                    bytes.clone(),
                ))));
            }
            match staged.files.get(&key) {
                Some((on, staged)) if *on == mount => Ok(Supply::Staged(*staged)),
                _ => Err(Error::unsupported(
                    "a file of a package moved to another filesystem than its folder was on",
                )),
            }
        };
        carry_out(bench, &differences, &mut supply)?;
    }
    // The draft reads through the editors, which must be nobody else's when they finish.
    Ok(injected.injection)
}

/// A file of a package: the package file, and where its bytes begin in the data archive.
pub(crate) type FileKey = (Digest, u64);

/// The bytes of payload files that are put in more than one place: staged bytes can be put once.
fn repeated(
    injected: &Injected,
    differences: &BTreeMap<GuestPath, Difference>,
) -> Result<HashMap<FileKey, Arc<[u8]>>> {
    let mut uses: HashMap<FileKey, (u32, Content)> = HashMap::new();
    for difference in differences.values() {
        if let Difference::Put {
            node:
                DraftNode::File(
                    content @ Content::Payload {
                        payload, offset, ..
                    },
                ),
            link_to: None,
            ..
        } = difference
            && *offset != WHOLE_PACKAGE
        {
            let entry = uses
                .entry((*payload, *offset))
                .or_insert_with(|| (0, content.clone()));
            entry.0 = entry.0.saturating_add(1);
        }
    }
    let mut bytes = 0_u64;
    let mut repeated = HashMap::new();
    for (key, (count, content)) in uses {
        if count < 2 {
            continue;
        }
        bytes = bytes.saturating_add(content.size());
        if bytes > MAX_REPEATED {
            return Err(Error::limit(
                "more than 256 MiB of package files are wanted in several places",
            ));
        }
        let mut held = Vec::new();
        injected
            .draft
            .open(&content)?
            .take(content.size())
            .read_to_end(&mut held)
            .map_err(|error| Error::io("cannot read what was staged", error))?;
        repeated.insert(key, Arc::from(held));
    }
    Ok(repeated)
}

/// What [`stage_all`] wrote.
pub(crate) struct StagedSet {
    /// What is in the package files, by digest.
    pub(crate) unpacked: BTreeMap<Digest, Arc<Unpacked>>,
    /// Where each file's bytes are: the mount and the editor's handle, by package file and offset.
    pub(crate) files: BTreeMap<FileKey, (usize, Staged)>,
    /// The package files themselves.
    pub(crate) packages: BTreeMap<Digest, dormouse_advisories::VerifiedPayload>,
}

fn staged_reader(bench: &Bench, staged: &Arc<StagedSet>) -> PayloadReader {
    let staged = staged.clone();
    let editors: Vec<Option<SharedEditor>> = bench.editors.clone();
    Arc::new(move |payload, offset, size| {
        if offset == WHOLE_PACKAGE {
            let package = staged
                .packages
                .get(&payload)
                .ok_or_else(|| Error::corrupt("a package file that was not unpacked"))?;
            return Ok(Box::new(package.reader().take(size)) as Box<dyn Read>);
        }
        let missing = || Error::corrupt("a file of a package that was not staged");
        // The place may lie within a file: the one that begins last before it.
        let ((of, start), (mount, handle)) = staged
            .files
            .range(..=(payload, offset))
            .next_back()
            .map(|(key, staged)| (*key, *staged))
            .ok_or_else(missing)?;
        if of != payload {
            return Err(missing());
        }
        let editor = editors.get(mount).cloned().flatten().ok_or_else(missing)?;
        Ok(Box::new(StagedReader {
            editor,
            staged: handle,
            offset: offset.saturating_sub(start),
        }) as Box<dyn Read>)
    })
}

struct StagedReader {
    editor: SharedEditor,
    staged: Staged,
    offset: u64,
}

impl Read for StagedReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = lock(&self.editor)
            .read_staged(self.staged, self.offset, buf)
            .map_err(std::io::Error::other)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

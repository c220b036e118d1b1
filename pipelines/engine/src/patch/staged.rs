//! Files of packages that were written to the image ahead of the draft, and are put in their places by it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Result};
use dormouse_overlay::{Content, Difference, DraftNode, PayloadReader, Staged, Supply};
use dormouse_remedy::{Injected, Injection, Plan, WHOLE_PACKAGE, draft_injection};

use super::{Bench, MAX_REPEATED, PatchOptions, SharedEditor, carry_out, joined, lock, materials};
use crate::staging::{FileKey, Staging};

/// Drafts the injection of the packages of `staging` and carries it out, while they are staged by up to `jobs` threads.
///
/// # Errors
/// As [`super::patch_once`].
pub(super) fn inject_staged(
    bench: &Bench,
    plan: &Plan,
    staging: &Arc<Staging>,
    options: &PatchOptions,
    jobs: usize,
) -> Result<Injection> {
    let (injected, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            if !plan.at_first_boot {
                staging.stage_all(bench, plan, jobs)?;
            }
            bench.overlay.bring_to_disk()
        });
        let injected = inject(bench, plan, staging, options);
        if injected.is_err() {
            staging.abandon();
        }
        (injected, joined(beside))
    });
    match (injected, beside) {
        (Ok(injection), Ok(())) => Ok(injection),
        // One of them broke the other off.
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(other)) if other.kind() == ErrorKind::Cancelled => Err(error),
        (_, Err(error)) => Err(error),
    }
}

fn inject(
    bench: &Bench,
    plan: &Plan,
    staging: &Arc<Staging>,
    options: &PatchOptions,
) -> Result<Injection> {
    let reader = staged_reader(bench, staging);
    let injected = draft_injection(plan, &materials(bench, &**staging, reader, options))?;
    let repeated = repeated(&injected)?;
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
        match staging.staged(&key) {
            Some((on, staged)) if on == mount => Ok(Supply::Staged(staged)),
            _ => Err(Error::unsupported(
                "a file of a package moved to another filesystem than its folder was on",
            )),
        }
    };
    carry_out(bench, &injected.differences, &mut supply)?;
    // The draft reads through the editors, which must be nobody else's when they finish.
    Ok(injected.injection)
}

/// The bytes of payload files that are put in more than one place: staged bytes can be put once.
fn repeated(injected: &Injected) -> Result<HashMap<FileKey, Arc<[u8]>>> {
    let mut uses: HashMap<FileKey, (u32, Content)> = HashMap::new();
    for difference in injected.differences.values() {
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

fn staged_reader(bench: &Bench, staging: &Arc<Staging>) -> PayloadReader {
    let staging = staging.clone();
    let editors: Vec<Option<SharedEditor>> = bench.editors.clone();
    Arc::new(move |payload, offset, size| {
        if offset == WHOLE_PACKAGE {
            let package = staging
                .packages
                .get(&payload)
                .ok_or_else(|| Error::corrupt("a package file that was not unpacked"))?;
            return Ok(Box::new(package.reader().take(size)) as Box<dyn Read>);
        }
        let missing = || Error::corrupt("a file of a package that was not staged");
        let (start, (mount, staged)) = staging.around((payload, offset)).ok_or_else(missing)?;
        let editor = editors.get(mount).cloned().flatten().ok_or_else(missing)?;
        Ok(Box::new(StagedReader {
            editor,
            staged,
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

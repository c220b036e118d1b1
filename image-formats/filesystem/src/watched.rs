//! What was asked of a tree and what it answered, so that another tree can be asked the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_block::{Digest, Result};

use crate::{DirEntry, FilesystemInfo, Left, Metadata, NodeId, NodeKind, Subvolume, Time, Tree};

/// Answers that are noted; a tree that gave more is like no other one.
const MAX_ANSWERS: usize = 1_000_000;

/// A tree that notes what it answers. Of a node's times it tells that of its bytes alone: the others differ between
/// trees that are alike in everything that counts.
pub struct Watched {
    tree: Arc<dyn Tree>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    answers: BTreeMap<Question, Answer>,
    /// Something was asked that is not noted.
    lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Info,
    Metadata(NodeId),
    Entry(NodeId, Vec<u8>),
    Listing(NodeId),
    Target(NodeId),
    Attributes(NodeId),
    /// From this offset on, so many at most.
    Bytes(NodeId, u64, usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Info(FilesystemInfo),
    Metadata(Metadata),
    Entry(Option<DirEntry>),
    Listing(Vec<DirEntry>),
    Target(Vec<u8>),
    Attributes(BTreeMap<Vec<u8>, Vec<u8>>),
    Bytes(Digest),
}

impl Question {
    fn ask(&self, tree: &dyn Tree) -> Result<Answer> {
        Ok(match self {
            Self::Info => Answer::Info(tree.info()),
            Self::Metadata(node) => Answer::Metadata(plain(tree.metadata(*node)?)),
            Self::Entry(node, name) => Answer::Entry(tree.lookup(*node, name)?),
            Self::Listing(node) => Answer::Listing(tree.read_dir(*node)?),
            Self::Target(node) => Answer::Target(tree.read_link(*node)?),
            Self::Attributes(node) => Answer::Attributes(tree.xattrs(*node)?),
            Self::Bytes(node, offset, len) => {
                let mut bytes = vec![0; *len];
                let n = tree.read_at(*node, *offset, &mut bytes)?;
                Answer::Bytes(Digest::of(bytes.get(..n).unwrap_or_default()))
            }
        })
    }
}

fn plain(mut metadata: Metadata) -> Metadata {
    metadata.atime = Time::default();
    metadata.ctime = Time::default();
    metadata
}

impl Watched {
    /// Watches `tree`.
    #[must_use]
    pub fn new(tree: Arc<dyn Tree>) -> Self {
        Self {
            tree,
            seen: Mutex::default(),
        }
    }

    /// Whether `tree` answers all that was asked of this one so far in the same way.
    #[must_use]
    pub fn agrees_with(&self, tree: &dyn Tree) -> bool {
        let kinds = |tree: &dyn Tree| (tree.info().kind, tree.ignores_case(), tree.left());
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        !seen.lost
            && self.tree.root() == tree.root()
            && kinds(&*self.tree) == kinds(tree)
            && seen
                .answers
                .iter()
                // What cannot be read is no answer.
                .all(|(question, answer)| question.ask(tree).is_ok_and(|same| same == *answer))
    }

    fn note<T>(
        &self,
        question: Question,
        found: Result<T>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Ok(found) if seen.answers.len() < MAX_ANSWERS => {
                seen.answers
                    .entry(question)
                    .or_insert_with(|| answer(found));
            }
            _ => seen.lost = true,
        }
        found
    }

    fn lose(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.lost = true;
    }
}

impl Tree for Watched {
    fn info(&self) -> FilesystemInfo {
        let info = self.tree.info();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answers
            .entry(Question::Info)
            .or_insert_with(|| Answer::Info(info.clone()));
        info
    }

    fn root(&self) -> NodeId {
        self.tree.root()
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let found = self.tree.metadata(node).map(plain);
        self.note(Question::Metadata(node), found, |found| {
            Answer::Metadata(found.clone())
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        self.note(Question::Listing(node), self.tree.read_dir(node), |found| {
            Answer::Listing(found.clone())
        })
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let question = Question::Entry(node, name.to_vec());
        self.note(question, self.tree.lookup(node, name), |found| {
            Answer::Entry(found.clone())
        })
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        self.note(Question::Target(node), self.tree.read_link(node), |found| {
            Answer::Target(found.clone())
        })
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let found = self.tree.read_at(node, offset, buf);
        let question = Question::Bytes(node, offset, buf.len());
        self.note(question, found, |n| {
            Answer::Bytes(Digest::of(buf.get(..*n).unwrap_or_default()))
        })
    }

    fn xattrs(&self, node: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.note(
            Question::Attributes(node),
            self.tree.xattrs(node),
            |found| Answer::Attributes(found.clone()),
        )
    }

    fn kept_mode(&self, kind: NodeKind) -> Option<u16> {
        self.tree.kept_mode(kind)
    }

    fn kept_time(&self, time: Time) -> Time {
        self.tree.kept_time(time)
    }

    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        self.lose();
        self.tree.subvolumes()
    }

    fn subvolume(&self, id: u64) -> Result<Arc<dyn Tree>> {
        self.lose();
        self.tree.subvolume(id)
    }

    fn ignores_case(&self) -> bool {
        self.tree.ignores_case()
    }

    fn left(&self) -> Left {
        self.tree.left()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Follow, Guest, MemoryTree};
    use dormouse_block::GuestPath;

    fn tree() -> MemoryTree {
        let mut tree = MemoryTree::new();
        tree.file("/etc/hostname", b"one\n")
            .file("/etc/issue", b"here\n")
            .file("/srv/data", b"1")
            .symlink("/etc/link", "issue");
        tree
    }

    fn path(path: &str) -> GuestPath {
        GuestPath::new(path).unwrap()
    }

    /// A guest of which the link, its target and the names in `/srv` were looked at.
    fn looked_at() -> Arc<Watched> {
        let (guest, watched) = Guest::of(tree()).watched();
        assert_eq!(
            guest.read(&path("/etc/link"), 100).unwrap().unwrap(),
            b"here\n"
        );
        assert_eq!(guest.read_dir(&path("/srv")).unwrap().unwrap().len(), 1);
        assert!(
            guest
                .metadata(&path("/none"), Follow::No)
                .unwrap()
                .is_none()
        );
        watched.into_iter().next().unwrap()
    }

    #[test]
    fn trees_agree_as_far_as_they_were_looked_at() {
        let seen = looked_at();
        assert!(seen.agrees_with(&tree()));
        let mut other = tree();
        other.file("/etc/hostname", b"another\n");
        assert!(seen.agrees_with(&other));
        let changes: [fn(&mut MemoryTree); 4] = [
            |tree| {
                tree.file("/etc/issue", b"away\n");
            },
            |tree| {
                tree.file("/srv/more", b"");
            },
            |tree| {
                tree.file("/none", b"");
            },
            |tree| {
                tree.symlink("/etc/link", "hostname");
            },
        ];
        for (nth, change) in changes.iter().enumerate() {
            let mut other = tree();
            change(&mut other);
            assert!(!seen.agrees_with(&other), "change {nth}");
        }
    }

    #[test]
    fn what_could_not_be_answered_agrees_with_nothing() {
        let seen = looked_at();
        assert!(seen.read_dir(NodeId(9_999)).is_err());
        assert!(!seen.agrees_with(&tree()));
    }
}

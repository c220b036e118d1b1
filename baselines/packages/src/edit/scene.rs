//! What edits would make of a guest, found out without changing it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, GuestPath, Locator, Result};
use dormouse_filesystem::NodeKind;

use super::place::why_not_to_be_edited;
use super::{Edit, Link, MAX_EDITS, MAX_TEXT, Ownership, Removal, SettingEdit, WholeFile};
use crate::Account;

/// Largest file that is written over or removed, in bytes: what edits are for is smaller.
pub const MAX_WHOLE: u64 = 64 << 20;
/// Symbolic links followed on one path before it is called a loop.
const MAX_LINKS: usize = 40;
/// Largest passwd and group database read for the numbers of names, in bytes.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// The guest as it is, asked by path.
pub struct Ground<'a> {
    /// What stands at a path whose directories are free of links; a link there is not followed.
    pub look: &'a dyn Fn(&GuestPath) -> Result<Option<Node>>,
    /// The bytes of the regular file at such a path, at most so many.
    pub read: &'a dyn Fn(&GuestPath, u64) -> Result<Vec<u8>>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub body: Body,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Its new bytes; absent where they are the guest's own.
        bytes: Option<Arc<[u8]>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device, pipe or socket.
    Other(NodeKind),
}

impl Body {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        match self {
            Self::File { .. } => NodeKind::File,
            Self::Directory => NodeKind::Directory,
            Self::Symlink(_) => NodeKind::Symlink,
            Self::Other(kind) => *kind,
        }
    }
}

/// What is changed at one path, free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: GuestPath,
    /// What stands there; absent where nothing does.
    pub before: Option<Node>,
    /// What is to stand there.
    pub after: Option<Node>,
}

/// What a list of edits, made in order, would change: nothing where all is so already. By path, directories before what
/// they hold.
///
/// # Errors
/// `Denied`, `Unsupported`, `Limit` or `Corrupt` for an edit that cannot be made, naming the path; `Denied` where a second
/// pass would change anything again; what asking the guest returns.
pub fn rehearse(ground: &Ground<'_>, edits: &[Edit]) -> Result<Vec<Change>> {
    if edits.len() > MAX_EDITS {
        return Err(Error::limit("more than 64 edits in one list"));
    }
    let mut scene = Scene {
        ground,
        nodes: BTreeMap::new(),
    };
    scene.make_all(edits)?;
    let once = scene.nodes.clone();
    scene.make_all(edits)?;
    let again = scene
        .nodes
        .iter()
        .find(|(path, node)| once.get(*path) != Some(*node));
    if let Some((path, _)) = again {
        let why = "its edits undo one another: made twice, they change this again";
        return Err(at(path, Error::denied(why)));
    }
    let mut changes = Vec::new();
    for (path, after) in once {
        let before = (ground.look)(&path)?;
        if !same(ground, &path, before.as_ref(), after.as_ref())? {
            changes.push(Change {
                path,
                before,
                after,
            });
        }
    }
    Ok(changes)
}

fn at(path: &GuestPath, error: Error) -> Error {
    error.located(&Locator::default().path(path.clone()))
}

/// Whether what is to be at a path is what the guest has there.
fn same(
    ground: &Ground<'_>,
    path: &GuestPath,
    before: Option<&Node>,
    after: Option<&Node>,
) -> Result<bool> {
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(before.is_none() && after.is_none());
    };
    if (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid) {
        return Ok(false);
    }
    match (&before.body, &after.body) {
        (Body::File { size, .. }, Body::File { size: new, bytes }) => match bytes {
            None => Ok(true),
            Some(bytes) => Ok(size == new && (ground.read)(path, MAX_WHOLE)? == **bytes),
        },
        (before, after) => Ok(before == after),
    }
}

/// The guest as it will be.
struct Scene<'a> {
    ground: &'a Ground<'a>,
    nodes: BTreeMap<GuestPath, Option<Node>>,
}

/// Whether the last component of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

/// Where a path leads, free of symbolic links.
enum Walk {
    /// To what stands there, or to a free place in a directory.
    Place(GuestPath),
    /// This directory on the way is missing.
    Missing(GuestPath),
}

impl Scene<'_> {
    fn make_all(&mut self, edits: &[Edit]) -> Result<()> {
        edits.iter().try_for_each(|edit| {
            self.make(edit).map_err(|error| match error.locator().path {
                Some(_) => error,
                None => at(edit.path(), error),
            })
        })
    }

    fn make(&mut self, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Set(edit) => self.set(edit),
            Edit::Line(edit) => {
                let missing = match (edit.state, edit.create) {
                    (super::LineState::Absent, _) => Absent::Right,
                    (_, true) => Absent::Made,
                    (_, false) => Absent::Refused,
                };
                self.text(&edit.path, missing, |text| Ok(edit.edited(text)))
            }
            Edit::Write(edit) => self.write(edit),
            Edit::Remove(edit) => self.remove(edit),
            Edit::Attributes(edit) => self.attributes(edit),
            Edit::Symlink(edit) => self.symlink(edit),
        }
    }

    fn look(&self, path: &GuestPath) -> Result<Option<Node>> {
        match self.nodes.get(path) {
            Some(node) => Ok(node.clone()),
            None => (self.ground.look)(path),
        }
    }

    fn bytes(&self, path: &GuestPath, node: &Node, most: u64) -> Result<Vec<u8>> {
        let Body::File { size, bytes } = &node.body else {
            let what = describe(node.body.kind());
            return Err(at(
                path,
                Error::denied(format!("no regular file but {what}")),
            ));
        };
        if *size > most {
            return Err(at(
                path,
                Error::limit(format!(
                    "the file has {size} bytes; at most {most} are edited"
                )),
            ));
        }
        match bytes {
            Some(bytes) => Ok(bytes.to_vec()),
            None => (self.ground.read)(path, most),
        }
    }

    fn walk(&self, path: &GuestPath, last: Last) -> Result<Walk> {
        let mut here = GuestPath::root();
        let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0_usize;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                here = here.parent().ok_or_else(|| {
                    at(
                        path,
                        Error::denied("a link on the way leads above the root"),
                    )
                })?;
                continue;
            }
            let next = here
                .join(&name)
                .map_err(|error| at(path, Error::corrupt("a bad name in a link").because(error)))?;
            match self.look(&next)?.map(|node| node.body) {
                None if todo.is_empty() => return Ok(Walk::Place(next)),
                None => return Ok(Walk::Missing(next)),
                Some(Body::Symlink(target)) if last == Last::Follow || !todo.is_empty() => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        let why = "more than 40 symbolic links on the way: a loop";
                        return Err(at(path, Error::limit(why)));
                    }
                    if target.starts_with(b"/") {
                        here = GuestPath::root();
                    }
                    for part in target.rsplit(|&byte| byte == b'/') {
                        if !part.is_empty() && part != b"." {
                            todo.push_front(part.to_vec());
                        }
                    }
                }
                Some(Body::Directory) => here = next,
                Some(_) if todo.is_empty() => return Ok(Walk::Place(next)),
                Some(body) => {
                    let what = describe(body.kind());
                    let why = format!("no directory but {what} is on the way");
                    return Err(at(&next, Error::denied(why)));
                }
            }
        }
        Ok(Walk::Place(here))
    }

    /// The place of a path, which may be edited.
    fn place(&self, path: &GuestPath, last: Last) -> Result<Option<GuestPath>> {
        let place = match self.walk(path, last)? {
            Walk::Place(place) => place,
            Walk::Missing(_) => return Ok(None),
        };
        match why_not_to_be_edited(&place) {
            Some(why) => Err(at(
                path,
                Error::denied(format!("leads to {place}, which {why}")),
            )),
            None => Ok(Some(place)),
        }
    }

    /// As [`Scene::place`] with the last component kept, with every missing directory made.
    fn place_made(&mut self, path: &GuestPath) -> Result<GuestPath> {
        loop {
            if let Some(place) = self.place(path, Last::Keep)? {
                return Ok(place);
            }
            // Each round makes one directory of the path, so this ends.
            let Walk::Missing(folder) = self.walk(path, Last::Keep)? else {
                continue;
            };
            if let Some(why) = why_not_to_be_edited(&folder) {
                let why = format!("leads to {folder}, which {why}");
                return Err(at(path, Error::denied(why)));
            }
            let made = Node {
                body: Body::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
            };
            self.nodes.insert(folder, Some(made));
        }
    }

    /// Edits the text of a file.
    fn text(
        &mut self,
        path: &GuestPath,
        absent: Absent,
        edit: impl Fn(&str) -> Result<String>,
    ) -> Result<()> {
        let place = match self.place(path, Last::Follow)? {
            Some(place) => place,
            None if absent == Absent::Right => return Ok(()),
            None => return Err(at(path, Error::denied("there is no such directory"))),
        };
        let Some(node) = self.look(&place)? else {
            let named = self.place(path, Last::Keep)?;
            return match absent {
                Absent::Right => Ok(()),
                _ if named.as_ref() != Some(&place) => {
                    Err(at(path, Error::denied("a link that leads nowhere")))
                }
                Absent::Refused => Err(at(path, Error::denied("there is no such file"))),
                Absent::Made => {
                    let text = edit("").map_err(|error| at(path, error))?;
                    self.nodes.insert(place, Some(new_file(text.into_bytes())));
                    Ok(())
                }
            };
        };
        let bytes = self.bytes(&place, &node, MAX_TEXT)?;
        if bytes.contains(&0) {
            return Err(at(
                path,
                Error::unsupported("a binary file is not edited by lines"),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            let why = "the file is not UTF-8, and is not edited by lines";
            at(path, Error::unsupported(why))
        })?;
        let new = edit(&text).map_err(|error| at(path, error))?;
        if new != text {
            self.nodes.insert(
                place,
                Some(Node {
                    body: file(new.into_bytes()),
                    ..node
                }),
            );
        }
        Ok(())
    }

    fn set(&mut self, edit: &SettingEdit) -> Result<()> {
        let absent = if edit.create {
            Absent::Made
        } else {
            Absent::Refused
        };
        self.text(&edit.path, absent, |text| edit.edited(text))
    }

    /// The node at a place that a file or link is to take.
    fn standing(&self, place: &GuestPath) -> Result<Option<Node>> {
        let node = self.look(place)?;
        match node.as_ref().map(|node| &node.body) {
            None | Some(Body::Symlink(_)) => Ok(node),
            Some(Body::File { size, .. }) if *size <= MAX_WHOLE => Ok(node),
            Some(Body::File { size, .. }) => Err(at(
                place,
                Error::limit(format!(
                    "a file of {size} bytes stands there; at most {MAX_WHOLE} are replaced or removed"
                )),
            )),
            Some(body) => {
                let why = format!("{} stands there", describe(body.kind()));
                Err(at(place, Error::denied(why)))
            }
        }
    }

    fn write(&mut self, edit: &WholeFile) -> Result<()> {
        let place = self.place_made(&edit.path)?;
        let standing = self.standing(&place)?;
        let file_there = standing.filter(|node| matches!(node.body, Body::File { .. }));
        let mut node = new_file(edit.content.clone().into_bytes());
        if let Some(there) = &file_there {
            (node.mode, node.uid, node.gid) = (there.mode, there.uid, there.gid);
        }
        node.mode = edit.mode.map_or(node.mode, crate::Mode::bits);
        node.uid = self.number(edit.owner.as_ref(), "/etc/passwd", node.uid)?;
        node.gid = self.number(edit.group.as_ref(), "/etc/group", node.gid)?;
        self.nodes.insert(place, Some(node));
        Ok(())
    }

    fn remove(&mut self, edit: &Removal) -> Result<()> {
        if let Some(place) = self.place(&edit.path, Last::Keep)?
            && self.standing(&place)?.is_some()
        {
            self.nodes.insert(place, None);
        }
        Ok(())
    }

    fn attributes(&mut self, edit: &Ownership) -> Result<()> {
        let missing = || at(&edit.path, Error::denied("nothing is there"));
        let place = self.place(&edit.path, Last::Follow)?.ok_or_else(missing)?;
        let mut node = self.look(&place)?.ok_or_else(missing)?;
        if let Body::Other(kind) = node.body {
            let why = format!("{} stands there", describe(kind));
            return Err(at(&edit.path, Error::denied(why)));
        }
        node.mode = edit.mode.map_or(node.mode, crate::Mode::bits);
        node.uid = self.number(edit.owner.as_ref(), "/etc/passwd", node.uid)?;
        node.gid = self.number(edit.group.as_ref(), "/etc/group", node.gid)?;
        self.nodes.insert(place, Some(node));
        Ok(())
    }

    fn symlink(&mut self, edit: &Link) -> Result<()> {
        let place = self.place_made(&edit.path)?;
        let standing = self.standing(&place)?;
        let body = Body::Symlink(edit.target.clone().into_bytes());
        if standing.is_some_and(|node| node.body == body) {
            return Ok(());
        }
        let link = Node {
            body,
            mode: 0o777,
            uid: 0,
            gid: 0,
        };
        self.nodes.insert(place, Some(link));
        Ok(())
    }

    /// The number of an account in the guest's own database.
    fn number(&self, account: Option<&Account>, database: &str, else_is: u32) -> Result<u32> {
        let Some(account) = account else {
            return Ok(else_is);
        };
        if let Account::Number(number) = account {
            return Ok(*number);
        }
        let path =
            GuestPath::new(database).map_err(|error| Error::corrupt("no path").because(error))?;
        let text = match self.walk(&path, Last::Follow)? {
            Walk::Place(place) => match self.look(&place)? {
                Some(node) => self.bytes(&place, &node, MAX_ACCOUNTS)?,
                None => Vec::new(),
            },
            Walk::Missing(_) => Vec::new(),
        };
        let number = account.number(&String::from_utf8_lossy(&text));
        number.ok_or_else(|| {
            let why = format!("the guest's {database} has no {account}");
            Error::new(ErrorKind::Denied, why)
        })
    }
}

/// What becomes of a text edit where no file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// It is as it is to be.
    Right,
    /// The file is made.
    Made,
    /// The edit is refused.
    Refused,
}

fn file(bytes: Vec<u8>) -> Body {
    Body::File {
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        bytes: Some(bytes.into()),
    }
}

fn new_file(bytes: Vec<u8>) -> Node {
    Node {
        body: file(bytes),
        mode: 0o644,
        uid: 0,
        gid: 0,
    }
}

fn describe(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "a file",
        NodeKind::Directory => "a directory",
        NodeKind::Symlink => "a link",
        NodeKind::CharDevice | NodeKind::BlockDevice => "a device",
        NodeKind::Fifo => "a pipe",
        NodeKind::Socket => "a socket",
    }
}

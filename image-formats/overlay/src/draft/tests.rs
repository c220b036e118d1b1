//! The draft's own tests.

use std::collections::BTreeMap;

use dormouse_filesystem::{Follow, MemoryTree, Time};

use super::*;
use crate::Attributes;

fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

fn plain(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: BTreeMap::new(),
    }
}

fn draft() -> Draft {
    let mut tree = MemoryTree::new();
    tree.file("/usr/bin/sh", b"dash")
        .symlink("/bin", "usr/bin")
        .file("/etc/app/a.conf", b"a")
        .file("/etc/app/sub/b.conf", b"b");
    let no_payload: PayloadReader = Arc::new(|_, _, _| Err(Error::corrupt("no payload here")));
    Draft::new(Arc::new(Guest::of(tree)), no_payload)
}

fn put(draft: &mut Draft, at: &str, bytes: &[u8]) {
    draft
        .put(
            &path(at),
            DraftNode::File(Content::bytes(bytes)),
            plain(0o644),
        )
        .unwrap();
}

fn names(draft: &Draft, at: &str) -> Vec<String> {
    let names = draft.read_dir(&path(at)).unwrap().unwrap();
    names
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[test]
fn changes_are_seen_through_links_and_listed_by_true_path() {
    let mut draft = draft();
    put(&mut draft, "/bin/sh", b"new");
    assert_eq!(
        draft.read(&path("/usr/bin/sh"), 9).unwrap().unwrap(),
        b"new"
    );
    let differences = draft.differences().unwrap();
    assert_eq!(
        differences.keys().collect::<Vec<_>>(),
        [&path("/usr/bin/sh")]
    );
}

#[test]
fn going_back_undoes_everything_since() {
    let mut draft = draft();
    put(&mut draft, "/etc/app/new.conf", b"1");
    let before = draft.savepoint();
    put(&mut draft, "/etc/app/new.conf", b"2");
    draft.remove(&path("/etc/app/a.conf")).unwrap();
    draft
        .rename(&path("/etc/app"), &path("/etc/moved"))
        .unwrap();
    draft.go_back(before);
    assert_eq!(names(&draft, "/etc/app"), ["a.conf", "new.conf", "sub"]);
    assert_eq!(
        draft.read(&path("/etc/app/new.conf"), 9).unwrap().unwrap(),
        b"1"
    );
    assert!(
        draft
            .get(&path("/etc/moved"), Follow::No)
            .unwrap()
            .is_none()
    );
    assert_eq!(draft.differences().unwrap().len(), 1);
}

#[test]
fn a_moved_directory_takes_all_along() {
    let mut draft = draft();
    put(&mut draft, "/etc/app/sub/c.conf", b"c");
    draft
        .rename(&path("/etc/app"), &path("/etc/moved"))
        .unwrap();
    assert_eq!(names(&draft, "/etc"), ["moved"]);
    assert_eq!(names(&draft, "/etc/moved/sub"), ["b.conf", "c.conf"]);
    assert_eq!(
        draft.read(&path("/etc/moved/a.conf"), 9).unwrap().unwrap(),
        b"a"
    );
    let differences = draft.differences().unwrap();
    assert_eq!(
        differences.get(&path("/etc/app/sub/b.conf")),
        Some(&Difference::Removed)
    );
    assert!(!differences.contains_key(&path("/etc/app/sub/c.conf")));
    assert!(matches!(
        differences.get(&path("/etc/moved/sub/b.conf")),
        Some(Difference::Put { node: DraftNode::File(Content::Base { path: from, .. }), .. })
            if *from == path("/etc/app/sub/b.conf")
    ));
}

#[test]
fn a_directory_replaced_by_a_link_hides_what_it_held() {
    let mut draft = draft();
    let error = draft
        .put(
            &path("/etc/app"),
            DraftNode::Symlink(b"other".to_vec()),
            plain(0o777),
        )
        .unwrap_err();
    assert_eq!(error.kind(), dormouse_block::ErrorKind::Denied);
    draft.remove(&path("/etc/app/sub/b.conf")).unwrap();
    draft.remove(&path("/etc/app/sub")).unwrap();
    draft.remove(&path("/etc/app/a.conf")).unwrap();
    draft.remove(&path("/etc/app")).unwrap();
    draft
        .put(
            &path("/etc/app"),
            DraftNode::Symlink(b"other".to_vec()),
            plain(0o777),
        )
        .unwrap();
    assert!(
        draft
            .get(&path("/etc/app/a.conf"), Follow::Links)
            .unwrap()
            .is_none()
    );
    assert_eq!(draft.differences().unwrap().len(), 4);
}

#[test]
fn hard_links_and_attributes_stay_with_their_node() {
    let mut draft = draft();
    draft
        .link(&path("/etc/app/a.conf"), &path("/etc/app/z.conf"))
        .unwrap();
    draft
        .set_attributes(&path("/etc/app/z.conf"), plain(0o600))
        .unwrap();
    let a = draft
        .get(&path("/etc/app/a.conf"), Follow::No)
        .unwrap()
        .unwrap();
    assert_eq!(a.attributes.mode, 0o600);
    let differences = draft.differences().unwrap();
    assert!(matches!(
        differences.get(&path("/etc/app/a.conf")),
        Some(Difference::Attributes(_))
    ));
    assert!(matches!(
        differences.get(&path("/etc/app/z.conf")),
        Some(Difference::Put { link_to: Some(to), .. }) if *to == path("/etc/app/a.conf")
    ));
}

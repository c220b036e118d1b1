//! Whether changes fit, said before the first byte is written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dormouse_block::ErrorKind;
use dormouse_filesystem::Guest;
use dormouse_overlay::{Content, Draft, DraftNode, Editor, PayloadReader, Supply, apply};

use crate::model::{attributes, make, open, path};
use crate::oracle::{self, run};

fn carry_out(image: &Path, put: &[(&str, usize)], remove: &[&str]) -> dormouse_block::Result<()> {
    let guest = Arc::new(Guest::of(oracle::open(image)));
    let none: PayloadReader = Arc::new(|_, _, _| unreachable!("there is no payload"));
    let mut draft = Draft::new(guest.clone(), none);
    for name in remove {
        draft.remove(&path(name)).unwrap();
    }
    for (name, size) in put {
        let node = DraftNode::File(Content::bytes(vec![b'n'; *size]));
        draft.put(&path(name), node, attributes(0o644)).unwrap();
    }
    let mut editor = open(image);
    let differences = draft.differences()?;
    let mut editors: Vec<Option<&mut dyn Editor>> = vec![Some(&mut *editor)];
    apply(&guest, &differences, &mut editors, &mut |_, content| {
        Ok(Supply::Reader(draft.open(content)?))
    })?;
    editor.finish()
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("old"), vec![b'o'; 10 << 20]).unwrap();
    for (name, options) in [
        ("plain", "-t ext4 -m 5"),
        ("clusters", "-t ext4 -m 5 -O bigalloc -b 4096"),
        ("classic", "-t ext2 -m 0"),
    ] {
        let image = make(folder.path(), name, options, 48, Some(&content));
        let free = usize::try_from(open(&image).free_bytes()).unwrap();
        let before = fs::read(&image).unwrap();
        let error = carry_out(&image, &[("/new", free + 4096)], &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error}");
        let text = error.to_string();
        for number in [free.to_string(), "inodes".to_owned(), "reserved".to_owned()] {
            assert!(text.contains(&number), "{name}: {text}");
        }
        assert!(fs::read(&image).unwrap() == before, "{name} was written");
        // Too many inodes.
        let nodes = usize::try_from(open(&image).free_nodes()).unwrap();
        let names: Vec<String> = (0..=nodes).map(|n| format!("/n{n}")).collect();
        let many: Vec<(&str, usize)> = names.iter().map(|name| (&**name, 0)).collect();
        let error = carry_out(&image, &many, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error}");
        assert!(
            error.to_string().contains(&(nodes + 1).to_string()),
            "{error}"
        );
        assert!(fs::read(&image).unwrap() == before, "{name} was written");
        // What is removed first makes room, and so does what was replaced before.
        carry_out(&image, &[("/new", free - (1 << 20))], &["/old"]).unwrap();
        let left = usize::try_from(open(&image).free_bytes()).unwrap();
        carry_out(&image, &[("/new", left / 2), ("/zzz", left)], &[]).unwrap();
        let output = run("e2fsck", &["-fn", image.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
    }
}

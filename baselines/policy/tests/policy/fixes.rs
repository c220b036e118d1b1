//! Fixes: what reads, where one is relevant, and that made twice is made once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Guest, MemoryTree, NodeKind};
use dormouse_packages::edit::{Body, Edit, Ground, Node, rehearse};
use dormouse_packages::observe;
use dormouse_policy::{Assessment, Baseline, Rule, Verdict};

use crate::world::{Known, NOW, guest, judge_knowing, offers};

const HEAD: &str = "name = 'x'\n[[fix]]\nid = 'f'\ntitle = 't'\nseverity = 'high'\n";
const EDIT: &str = "[[fix.edit]]\ndo = 'set'\npath = '/etc/app.ini'\nkey = 'level'\nvalue = '2'\n";

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("/etc/app.ini", b"level = 1\n[log]\nlevel = 3\n")
        .file("/etc/hosts", b"127.0.0.1 localhost\n")
        .file("/etc/made.ini", b"level = 2\n")
        .special("/etc/pipe", NodeKind::Fifo);
    tree
}

fn judge_on(text: &str, packages: &[&str]) -> Assessment {
    let probes = Baseline::parse(text).unwrap().probes();
    let known = Known {
        observations: observe(&Guest::of(tree()), &probes),
        ..Known::default()
    };
    judge_knowing(text, &guest(packages), &offers(&[]), &known, NOW)
}

#[test]
fn a_bad_key_is_named_with_its_line() {
    for (body, line, word) in [
        ("machine = ['*']\n", 6, "`machine`"),
        (
            "[[fix.edit]]\ndo = 'set'\npath = '/a'\nkye = 'k'\n",
            9,
            "`kye`",
        ),
        ("[[fix.edit]]\ndo = 'make'\npath = '/a'\n", 7, "`make`"),
        (
            "[[fix.edit]]\ndo = 'remove'\npath = '/a'\nvalue = 'v'\n",
            6,
            "`value`",
        ),
        (
            "[[fix.edit]]\ndo = 'set'\npath = '/a'\nkey = 'k'\n",
            6,
            "`value`",
        ),
        (
            "[[fix.edit]]\ndo = 'remove'\npath = 'a'\n",
            6,
            "does not begin with /",
        ),
        (
            "[[fix.edit]]\ndo = 'remove'\npath = '/a/../b'\n",
            6,
            "path contains ..",
        ),
        ("[[fix.edit]]\ndo = 'remove'\npath = '/'\n", 6, "the root"),
        (
            "[[fix.edit]]\ndo = 'remove'\npath = '/var/lib/dpkg/status'\n",
            6,
            "is a package database",
        ),
        (
            "[[fix.edit]]\ndo = 'remove'\npath = '/proc/1'\n",
            6,
            "every boot",
        ),
        ("[[fix.edit]]\ndo = 'write'\npath = '/a'\n", 6, "`content`"),
        (
            "[[fix.edit]]\ndo = 'write'\npath = '/a'\ncontent = ''\nmode = '0999'\n",
            10,
            "no mode",
        ),
        (
            "[[fix.edit]]\ndo = 'write'\npath = '/a'\ncontent = ''\nowner = 'a:b'\n",
            6,
            "`owner`",
        ),
        (
            "[[fix.edit]]\ndo = 'attributes'\npath = '/a'\n",
            6,
            "want an `owner`",
        ),
        ("[[fix.edit]]\ndo = 'line'\npath = '/a'\n", 6, "`line`"),
        (
            "[[fix.edit]]\ndo = 'line'\npath = '/a'\nline = \"a\\nb\"\n",
            6,
            "'\\n'",
        ),
        (
            "[[fix.edit]]\ndo = 'line'\npath = '/a'\nstate = 'absent'\n",
            6,
            "one of `line` and `matching`",
        ),
        (
            "[[fix.edit]]\ndo = 'symlink'\npath = '/a'\ntarget = ''\n",
            6,
            "`target`",
        ),
        (
            "[[fix.edit]]\ndo = 'set'\npath = '/a'\nkey = 'k=1'\nvalue = 'v'\n",
            6,
            "`key`",
        ),
        (
            "[[fix.edit]]\ndo = 'set'\npath = '/a'\nkey = 'k'\nvalue = ' v'\n",
            6,
            "`value`",
        ),
        (
            "[[fix.edit]]\ndo = 'set'\npath = '/a'\nkey = 'k'\nvalue = 'a # b'\n",
            6,
            "put it in quotes",
        ),
        (
            "[[fix.package]]\nname = 'a'\nversions = ['1']\n",
            8,
            "no range",
        ),
        ("[[fix.package]]\nname = 'a b'\n", 7, "no package name"),
        ("[[fix.file]]\npath = 'a'\n", 7, "does not begin with /"),
        ("[[fix.line]]\npath = '/a'\nlines = 'x'\n", 8, "`lines`"),
        ("[fix.applies-to]\nsystem = ['debian']\n", 7, "`system`"),
    ] {
        let error = Baseline::parse(&format!("{HEAD}{body}{EDIT}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("line {line} of")) && error.contains(word),
            "{body}: {error}"
        );
    }
    // What no single value shows is named by the fix.
    let long = format!("{HEAD}{}", EDIT.repeat(65));
    let twice = format!("{HEAD}{EDIT}[[file]]\nid = 'f'\npath = '/a'\n");
    let own = format!("{HEAD}[[fix.file]]\npath = '/a'\nseverity = 'low'\n{EDIT}");
    let both = format!("{HEAD}[[fix.line]]\npath = '/a'\nline = 'a'\nmatching = 'a'\n{EDIT}");
    let no_edit = format!("{HEAD}edit = []\n");
    for (text, word) in [
        (long, "more than 64 edits"),
        (twice, "two checks with the id \"f\""),
        (own, "which are the fix's"),
        (both, "one of `line` and `matching`"),
        (no_edit, "has no edit"),
    ] {
        let error = Baseline::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("line "), "{error}");
    }
    let missing = Baseline::parse(HEAD).unwrap_err().to_string();
    assert!(
        missing.contains("`edit`") && missing.contains("line 2"),
        "{missing}"
    );
    let no_id = Baseline::parse("name = 'x'\n[[file]]\nid = ''\npath = '/a'\n").unwrap_err();
    assert!(no_id.to_string().contains("line 3"), "{no_id}");
}

#[test]
fn a_fix_is_relevant_where_all_holds_and_an_edit_would_change_something() {
    for (conditions, relevant) in [
        ("", true),
        ("[[fix.package]]\nname = 'a'\n", true),
        (
            "[[fix.package]]\nname = 'a'\nversions = ['>= 1', '<< 2']\n",
            true,
        ),
        (
            "[[fix.package]]\nname = 'a'\nversions = ['>= 1', '<< 1.5']\n",
            false,
        ),
        ("[[fix.package]]\nname = 'b'\n", false),
        ("[[fix.package]]\nname = 'gone'\n", false),
        ("[[fix.file]]\npath = '/etc/hosts'\nowner = 'root'\n", true),
        ("[[fix.file]]\npath = '/etc/hosts'\nmode = '0600'\n", false),
        ("[[fix.file]]\npath = '/etc/none'\nstate = 'absent'\n", true),
        ("[[fix.file]]\npath = '/etc/none'\n", false),
        (
            "[[fix.setting]]\npaths = ['/etc/app.ini']\nsection = 'log'\nkey = 'level'\nvalues = ['3']\n",
            true,
        ),
        (
            "[[fix.setting]]\npaths = ['/etc/app.ini']\nsection = 'log'\nkey = 'level'\nvalues = ['4']\n",
            false,
        ),
        (
            "[[fix.line]]\npath = '/etc/hosts'\nline = '127.0.0.1 localhost'\n",
            true,
        ),
        (
            "[[fix.line]]\npath = '/etc/hosts'\nmatching = '*local*'\n",
            true,
        ),
        (
            "[[fix.line]]\npath = '/etc/hosts'\nmatching = 'local*'\n",
            false,
        ),
        (
            "[[fix.line]]\npath = '/etc/hosts'\nmatching = '*local*'\nstate = 'absent'\n",
            false,
        ),
        (
            "[[fix.line]]\npath = '/etc/none'\nline = 'x'\nstate = 'absent'\n",
            true,
        ),
        (
            "[fix.applies-to]\nos = ['debian']\nmachines = ['web-*']\n",
            true,
        ),
        ("[fix.applies-to]\nos = ['alpine']\n", false),
        (
            "[[fix.package]]\nname = 'a'\n[[fix.line]]\npath = '/etc/hosts'\nline = 'x'\n",
            false,
        ),
    ] {
        let said = judge_on(
            &format!("{HEAD}{conditions}{EDIT}"),
            &["a 1.7", "gone 1 deinstall ok config-files"],
        );
        assert_eq!(said.findings.len(), usize::from(relevant), "{conditions}");
        let verdict = if relevant {
            Verdict::NonCompliant
        } else {
            Verdict::Compliant
        };
        assert_eq!(said.verdict, verdict, "{conditions}: {:?}", said.reasons);
        if let Some(finding) = said.findings.first() {
            assert_eq!((finding.package.as_str(), finding.rule), ("f", Rule::Fix));
            assert_eq!(
                (finding.why.as_str(), finding.severity.is_some()),
                ("t", true)
            );
            let check = finding.check.clone().unwrap();
            assert_eq!(check.found, "not so: /etc/app.ini");
            assert_eq!(check.expected, "/etc/app.ini: level = 2");
            assert_eq!(said.reasons, ["1 fix is not made"]);
        }
    }
    // What is so already is no finding.
    let made = EDIT.replace("app.ini", "made.ini");
    let said = judge_on(&format!("{HEAD}{made}"), &["a 1"]);
    assert_eq!((said.findings.len(), said.checks_right), (0, 1));
    // What cannot be made stays a finding, and says so.
    let pipe = EDIT.replace("app.ini", "pipe");
    let said = judge_on(&format!("{HEAD}{pipe}"), &["a 1"]);
    let found = said.findings[0].check.clone().unwrap().found;
    assert_eq!(
        found,
        "cannot be made: no regular file but a pipe (/etc/pipe)"
    );
}

#[test]
fn a_fix_that_was_not_asked_about_is_never_taken_for_made() {
    let text = format!("{HEAD}{EDIT}");
    let unasked = judge_knowing(
        &text,
        &guest(&["a 1"]),
        &offers(&[]),
        &Known::default(),
        NOW,
    );
    assert_eq!(unasked.verdict, Verdict::Indeterminate);
    assert!(unasked.unjudged.first().unwrap().contains("was not asked"));
}

#[test]
fn fixes_have_deadlines_and_can_be_waived_by_id_or_by_their_cves() {
    let fix = format!("{HEAD}references = ['CVE-2026-0001', 'https://example.org']\n{EDIT}");
    let dated = format!(
        "{fix}[[deadlines.rule]]\nid = 'all'\nwithin = '3 days'\nfrom = 'detected'\nrules = ['fix']\n[[deadlines.rule]]\nid = 'last'\nwithin = '9 days'\nfrom = 'detected'\n"
    );
    let said = judge_on(&dated, &["a 1"]);
    let finding = &said.findings[0];
    assert_eq!(finding.cves[0].id, "CVE-2026-0001");
    let due = finding.due.clone().unwrap();
    assert_eq!(
        (due.rule.as_str(), due.cve.as_deref()),
        ("all", Some("CVE-2026-0001"))
    );
    assert_eq!(due.until.unwrap().to_string(), "2026-01-05T00:00:00Z");
    for waived in ["package = 'f'\nrule = 'fix'", "cves = ['CVE-2026-0001']"] {
        let waiver =
            format!("[[waiver]]\nid = 'W'\n{waived}\nreason = 'r'\nexpires = 2027-01-01\n");
        let said = judge_on(&format!("{fix}{waiver}"), &["a 1"]);
        assert_eq!(said.findings[0].waiver.as_ref().unwrap().id, "W");
        assert_eq!(said.verdict, Verdict::Compliant);
    }
}

/// A guest of a few files, to be asked and changed.
struct Files(
    RefCell<BTreeMap<GuestPath, Node>>,
    RefCell<BTreeMap<GuestPath, Vec<u8>>>,
);

impl Files {
    fn new() -> Self {
        Self(RefCell::default(), RefCell::default())
    }

    fn put(&self, path: &str, body: Body, bytes: &[u8]) {
        let path = GuestPath::new(path).unwrap();
        let node = Node {
            body,
            mode: 0o755,
            uid: 7,
            gid: 7,
        };
        self.0.borrow_mut().insert(path.clone(), node);
        self.1.borrow_mut().insert(path, bytes.to_vec());
    }

    fn file(&self, path: &str, text: &str) {
        let size = u64::try_from(text.len()).unwrap();
        self.put(path, Body::File { size, bytes: None }, text.as_bytes());
    }

    /// Makes the edits; how many paths that changed.
    fn make(&self, edits: &[Edit]) -> Result<usize> {
        let look = |path: &GuestPath| Ok(self.0.borrow().get(path).cloned());
        let read = |path: &GuestPath, _: u64| {
            let bytes = self.1.borrow().get(path).cloned();
            bytes.ok_or_else(|| Error::corrupt("no file"))
        };
        let changes = rehearse(
            &Ground {
                look: &look,
                read: &read,
            },
            edits,
        )?;
        for change in &changes {
            let Some(mut node) = change.after.clone() else {
                self.0.borrow_mut().remove(&change.path);
                continue;
            };
            if let Body::File { bytes: new, .. } = &mut node.body
                && let Some(new) = new.take()
            {
                self.1
                    .borrow_mut()
                    .insert(change.path.clone(), new.to_vec());
            }
            self.0.borrow_mut().insert(change.path.clone(), node);
        }
        Ok(changes.len())
    }
}

/// Random edits on random files: a second pass never changes anything, and what is refused changes nothing.
#[test]
fn made_twice_is_made_once() {
    let mut state = 0x5eed_00f1_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let lines = [
        "k = 1",
        "k=2 # x",
        "# k = 3",
        "[s]",
        "[t]",
        "",
        "  k = \"4\"",
        "other",
        "k = a\\",
        "  more",
        "K 9",
        "k",
        "Match x",
        "k = '5' ; y",
        "a: b",
        "\tk\t=\t6",
        ";k",
        "k = ä\r",
        "[",
        "k ==",
    ];
    let paths = [
        "/etc/a",
        "/etc/b",
        "/etc/link",
        "/etc/new/c",
        "/etc/dir",
        "/etc/dev",
    ];
    let (mut changed, mut refused) = (0, 0);
    for round in 0..20_000 {
        let files = Files::new();
        files.put("/etc", Body::Directory, b"");
        files.put("/etc/dir", Body::Directory, b"");
        files.put("/etc/dev", Body::Other(NodeKind::CharDevice), b"");
        files.put("/etc/link", Body::Symlink(b"../etc/b".to_vec()), b"");
        for path in ["/etc/a", "/etc/b"] {
            let mut text: Vec<&str> = (0..random(7)).map(|_| lines[random(lines.len())]).collect();
            if random(2) == 0 && !text.is_empty() {
                text.push("");
            }
            files.file(path, &text.join(["\n", "\r\n"][random(2)]));
        }
        let mut edits = Vec::new();
        for _ in 0..=random(2) {
            let path = paths[random(paths.len())];
            let value = ["1", "x y", "\"q\"", "it's", "a#b", "ä"][random(6)];
            let separator = ["=", " ", ":", " = "][random(4)];
            let edit = match random(7) {
                0 | 1 => {
                    serde_json::json!({"do": "set", "path": path, "key": (["k", "K"][random(2)]), "value": value,
                    "separator": separator, "ignore-case": random(2) == 0, "create": random(2) == 0})
                }
                2 => {
                    serde_json::json!({"do": "set", "path": path, "key": "k", "value": value, "section": "s", "ends-at": "Match"})
                }
                3 => {
                    serde_json::json!({"do": "line", "path": path, "line": value, "matching": (["k*", "*", "?k*", "*=*"][random(4)]),
                    "after": "[*", "create": true})
                }
                4 => {
                    serde_json::json!({"do": "line", "path": path, "matching": "*k*", "state": "absent"})
                }
                5 => {
                    serde_json::json!({"do": "write", "path": path, "content": value, "mode": "0600"})
                }
                _ => match random(3) {
                    0 => serde_json::json!({"do": "remove", "path": path}),
                    1 => serde_json::json!({"do": "attributes", "path": path, "owner": 5}),
                    _ => serde_json::json!({"do": "symlink", "path": path, "target": "a"}),
                },
            };
            edits.push(serde_json::from_value::<Edit>(edit).unwrap());
        }
        let before = (files.0.clone(), files.1.clone());
        match files.make(&edits) {
            Ok(n) => {
                changed += n;
                let again = files.make(&edits);
                assert_eq!(
                    again.unwrap(),
                    0,
                    "round {round}: {edits:#?} over {:#?}",
                    before.1
                );
            }
            Err(error) => {
                refused += 1;
                let undone = error.to_string().contains("undo one another");
                assert!(
                    !undone || edits.len() > 1,
                    "round {round}: {edits:#?} over {:#?}",
                    before.1
                );
                assert_eq!((&files.0, &files.1), (&before.0, &before.1));
            }
        }
    }
    assert!(changed > 5_000 && refused > 2_000, "{changed} {refused}");
}

#[test]
fn edits_survive_being_written_down() {
    let text = format!(
        "{HEAD}{EDIT}[[fix.edit]]\ndo = 'line'\npath = '/a'\nline = 'x'\nmatching = 'y*'\nafter = 'z'\ncreate = true\n\
         [[fix.edit]]\ndo = 'write'\npath = '/a'\ncontent = 'x'\nowner = 'root'\ngroup = 0\nmode = '04755'\n\
         [[fix.edit]]\ndo = 'remove'\npath = '/b'\n[[fix.edit]]\ndo = 'attributes'\npath = '/c'\nmode = '0600'\n\
         [[fix.edit]]\ndo = 'symlink'\npath = '/d'\ntarget = 'x'\n"
    );
    let edits = Baseline::parse(&text).unwrap().fixes.remove(0).edits;
    assert_eq!(edits.len(), 6);
    let json = serde_json::to_string(&edits).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Edit>>(&json).unwrap(), edits);
}

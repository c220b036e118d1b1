//! Fixes made on a draft: held against python's configparser, and against the same fixes run by sh on a folder.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write folders of their own and run the oracle"
)]
#![allow(
    missing_docs,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Locator};
use dormouse_filesystem::{Follow, Guest, MemoryTree};
use dormouse_overlay::{Draft, DraftNode, PayloadReader};
use dormouse_packages::edit::Edit;
use dormouse_remedy::{
    FIX_FUNCTIONS, FixOutcome, Injected, Materials, Only, Plan, PlannedFix, draft_injection,
    fix_script,
};
use serde_json::json;

const NOW: &str = "2026-11-01T00:00:00Z";

fn fix(id: &str, edits: &[serde_json::Value]) -> PlannedFix {
    let edits = edits
        .iter()
        .map(|edit| serde_json::from_value::<Edit>(edit.clone()).unwrap());
    PlannedFix {
        id: id.into(),
        title: "t".into(),
        references: Vec::new(),
        severity: None,
        edits: edits.collect(),
        outcome: None,
        notes: Vec::new(),
    }
}

fn inject(tree: MemoryTree, fixes: Vec<PlannedFix>) -> (Plan, Injected) {
    let at = Locator::machine("web-01").point("active");
    let mut plan = Plan::of_fixes(at, NOW.parse().unwrap(), Only::All, fixes);
    let payloads: PayloadReader = Arc::new(|_, _, _| Err(Error::corrupt("there is no package")));
    let injected = draft_injection(
        &plan,
        &Materials {
            guest: Arc::new(Guest::of(tree)),
            packages: &BTreeMap::new(),
            payloads,
            now: NOW.parse().unwrap(),
            limits: dormouse_scripts::Limits::default(),
        },
    )
    .unwrap();
    plan.decide(&injected.injection);
    (plan, injected)
}

fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

fn text(draft: &Draft, at: &str) -> String {
    String::from_utf8(draft.read(&path(at), 1 << 20).unwrap().unwrap()).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// What configparser makes of a file is, but for the key, what it was; and the key has the value.
#[test]
fn settings_read_as_configparser_reads_them() {
    const ORACLE: &str = r#"
import configparser, json, sys
def read(text):
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=('=',), comment_prefixes=('#', ';'),
        inline_comment_prefixes=('#', ';'), default_section='no such section', allow_no_value=True)
    parser.optionxform = str
    parser.read_string('[top of the file]\n' + text)
    return {name: dict(parser[name]) for name in parser.sections()}
def plain(value):
    quoted = value and len(value) > 1 and value[0] in '"\'' and value[-1] == value[0]
    return value[1:-1] if quoted else value
bad = []
cases = json.load(open(sys.argv[1]))
for case in cases:
    wanted = read(case['before'])
    section = case['section'] or 'top of the file'
    wanted.setdefault(section, {})[case['key']] = case['value']
    found = read(case['after'])
    both = [{name: {key: plain(value) for key, value in keys.items()} for name, keys in one.items()} for one in (wanted, found)]
    comments = [[line for line in case[which].splitlines() if line.lstrip()[:1] in tuple('#;')] for which in ('before', 'after')]
    if both[0] != both[1] or comments[0] != comments[1]:
        bad.append(case)
print(json.dumps({'cases': len(cases), 'bad': bad[:3]}))
"#;
    let mut random = Random(0x5eed_00f2);
    let mut cases = Vec::new();
    for _ in 0..3000 {
        let mut before = String::new();
        let mut sections = vec!["", "s", "t", "u v"];
        sections.truncate(1 + random.below(4));
        for section in &sections {
            if !section.is_empty() {
                before.push_str(&format!("[{section}]\n"));
            }
            let mut keys = vec!["a", "key", "other key", "k2"];
            while !keys.is_empty() && random.below(4) > 0 {
                let key = keys.remove(random.below(keys.len()));
                let between = random.of(&["=", " = ", "= ", "\t=\t"]);
                let value = random.of(&["1", "two words", "\"quoted\"", "'single'", "a=b", "x#y"]);
                let after = random.of(&["", "", " # why", " ; why", "  "]);
                if random.below(4) == 0 {
                    before.push_str(random.of(&["# a comment\n", ";key = 0\n", "#key=0\n", "\n"]));
                }
                before.push_str(&format!("{key}{between}{value}{after}\n"));
            }
        }
        if random.below(4) == 0 {
            before.pop();
        }
        let section = random.of(&["", "s", "t", "u v", "new"]).to_owned();
        let key = random.of(&["key", "a", "new", "other key"]);
        let value = random.of(&["no", "3", "some words", "it's", "a=b"]);
        let mut edit = json!({"do": "set", "path": "/etc/x", "key": key, "value": value, "separator": random.of(&["=", " = "])});
        if !section.is_empty() {
            edit["section"] = json!(section);
        }
        let mut tree = MemoryTree::new();
        tree.file("/etc/x", before.as_bytes());
        let (_, injected) = inject(tree, vec![fix("f", &[edit])]);
        let refused = matches!(
            injected.injection.fixes[0].outcome,
            FixOutcome::Refused { .. }
        );
        assert!(!refused, "{:?}", injected.injection.fixes);
        let after = text(&injected.draft, "/etc/x");
        cases.push(json!({"before": before, "after": after, "section": section, "key": key, "value": value}));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.json");
    fs::write(&file, serde_json::to_vec(&cases).unwrap()).unwrap();
    let out = Command::new("python3")
        .args(["-c", ORACLE])
        .arg(&file)
        .output();
    let out = out.expect("the oracle python3 is required");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(said["cases"], 3000);
    assert_eq!(said["bad"], json!([]), "{said:#}");
}

/// Every regular file and link below a folder.
fn tree_of(folder: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(here) = todo.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("/{}", path.strip_prefix(folder).unwrap().display());
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                todo.push(path);
            } else if metadata.is_symlink() {
                found.insert(
                    name,
                    format!("-> {}", fs::read_link(&path).unwrap().display()),
                );
            } else {
                let mode = metadata.permissions().mode() & 0o7777;
                let text = String::from_utf8(fs::read(&path).unwrap()).unwrap();
                found.insert(name, format!("{mode:04o} {text}"));
            }
        }
    }
    found
}

/// The same of a draft, for paths that either may have.
fn tree_in(draft: &Draft) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![GuestPath::root()];
    while let Some(here) = todo.pop() {
        for name in draft.read_dir(&here).unwrap().unwrap() {
            let path = here.join(&name).unwrap();
            let at = draft.get(&path, Follow::No).unwrap().unwrap();
            let said = match &at.node {
                DraftNode::Directory => {
                    todo.push(path);
                    continue;
                }
                DraftNode::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                _ => format!(
                    "{:04o} {}",
                    at.attributes.mode,
                    text(draft, &path.to_string())
                ),
            };
            found.insert(path.to_string(), said);
        }
    }
    found
}

/// Runs fragments by sh over a folder; whether all of them said that all is so.
fn run_script(root: &Path, fixes: &[PlannedFix]) -> bool {
    let mut script = format!("fix_root='{}'\n{FIX_FUNCTIONS}\nfailed=0\n", root.display());
    for one in fixes {
        let fragment = fix_script(one).unwrap();
        script.push_str(&format!("made() {{\n{fragment}}}\nmade || failed=1\n"));
    }
    script.push_str("exit $failed\n");
    let file = root.with_extension("sh");
    fs::write(&file, script).unwrap();
    let out = Command::new("sh")
        .arg(&file)
        .output()
        .expect("the oracle sh is required");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.lines().all(|line| line.starts_with("fix: ")), "{said}");
    out.status.success()
}

#[test]
fn a_script_makes_the_same_bytes_as_an_injection() {
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
        "k = ä",
        "[",
        "k ==",
        "$(touch x) `y` 'z'",
        "ök",
        "-n",
    ];
    let mut random = Random(0x5eed_00f3);
    let (mut made, mut refused) = (0, 0);
    for round in 0..150 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/dir")).unwrap();
        let mut tree = MemoryTree::new();
        tree.directory("/etc").directory("/etc/dir");
        for name in ["a", "b"] {
            let mut all: Vec<&str> = (0..random.below(8)).map(|_| random.of(&lines)).collect();
            if random.below(3) > 0 && !all.is_empty() {
                all.push("");
            }
            let text = all.join(random.of(&["\n", "\n", "\r\n"]));
            let path = root.join("etc").join(name);
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .unwrap();
            tree.file(&format!("/etc/{name}"), text.as_bytes())
                .with(|metadata| metadata.mode = 0o644);
        }
        std::os::unix::fs::symlink("b", root.join("etc/link")).unwrap();
        tree.symlink("/etc/link", "b");
        let mut fixes = Vec::new();
        for nth in 0..3 {
            let at = random.of(&["/etc/a", "/etc/b", "/etc/link", "/etc/dir/c", "/etc/new/d"]);
            let value = random.of(&[
                "1",
                "x y",
                "\"q\"",
                "it's",
                "a#b",
                "ä",
                "$(touch /x); `id`",
                "\\n%s",
            ]);
            let edit = match random.below(7) {
                0 | 1 => {
                    json!({"do": "set", "path": at, "key": random.of(&["k", "K"]), "value": value,
                    "separator": random.of(&["=", " ", ":", " = "]), "ignore-case": random.below(2) == 0, "create": random.below(2) == 0})
                }
                2 => {
                    json!({"do": "set", "path": at, "key": "k", "value": value, "section": "s", "ends-at": "Match"})
                }
                3 => {
                    json!({"do": "line", "path": at, "line": value, "matching": random.of(&["k*", "*", "?k*", "*=*", "*?"]),
                    "after": "[*", "create": true})
                }
                4 => {
                    json!({"do": "line", "path": at, "matching": random.of(&["*k*", "?", "-*"]), "state": "absent"})
                }
                5 => {
                    json!({"do": "write", "path": at, "content": format!("{value}\n\n"), "mode": "0600"})
                }
                _ => match random.below(3) {
                    0 => json!({"do": "remove", "path": at}),
                    1 => json!({"do": "attributes", "path": at, "mode": "0640"}),
                    _ => json!({"do": "symlink", "path": at, "target": "a"}),
                },
            };
            // Of one edit each: a fragment stops at what it cannot do and leaves what it did before.
            fixes.push(fix(&format!("f{nth}"), &[edit]));
        }
        let before = tree_of(&root);
        let (plan, injected) = inject(tree, fixes.clone());
        // What undoes an earlier one is refused as a plan; a script does what it is told.
        let undoes = |fix: &PlannedFix| match &fix.outcome {
            Some(FixOutcome::Refused { why }) => why.contains("undoes"),
            _ => false,
        };
        let kept: Vec<PlannedFix> = plan
            .fixes
            .iter()
            .filter(|fix| !undoes(fix))
            .cloned()
            .collect();
        let all = run_script(&root, &kept);
        let is_refused = |fix: &PlannedFix| matches!(fix.outcome, Some(FixOutcome::Refused { .. }));
        assert_eq!(
            all,
            !kept.iter().any(is_refused),
            "round {round}: {:#?} over {before:#?}",
            plan.fixes
        );
        let once = tree_of(&root);
        assert_eq!(
            once,
            tree_in(&injected.draft),
            "round {round}: {:#?} over {before:#?}",
            plan.fixes
        );
        let again: Vec<PlannedFix> = kept
            .iter()
            .filter(|fix| !is_refused(fix))
            .cloned()
            .collect();
        assert!(
            run_script(&root, &again),
            "twice: round {round}: {again:#?}"
        );
        assert_eq!(tree_of(&root), once, "twice: round {round}: {again:#?}");
        made += injected.injection.fixed().count();
        refused += kept.iter().filter(|fix| is_refused(fix)).count();
    }
    assert!(made > 150 && refused > 20, "{made} {refused}");
}

#[test]
fn fixes_that_undo_one_another_are_not_both_made() {
    let mut tree = MemoryTree::new();
    tree.file("/etc/x", b"k = 1\n");
    let set = |value: &str| json!({"do": "set", "path": "/etc/x", "key": "k", "value": value});
    let (plan, injected) = inject(
        tree,
        vec![
            fix("one", &[set("2")]),
            fix(
                "two",
                &[
                    json!({"do": "write", "path": "/etc/new", "content": ""}),
                    set("3"),
                ],
            ),
            fix("same", &[set("2")]),
            fix("itself", &[set("4"), set("5")]),
        ],
    );
    let outcomes: Vec<_> = plan
        .fixes
        .iter()
        .map(|fix| fix.outcome.clone().unwrap())
        .collect();
    assert_eq!(outcomes[0], FixOutcome::Made);
    assert!(
        matches!(&outcomes[1], FixOutcome::Refused { why } if why == "it undoes the fix one (/etc/x)"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[2], FixOutcome::Unneeded);
    assert!(
        matches!(&outcomes[3], FixOutcome::Refused { why } if why.contains("undo")),
        "{outcomes:?}"
    );
    assert_eq!(text(&injected.draft, "/etc/x"), "k = 2\n");
    assert_eq!(injected.injection.paths.len(), 1);
}

#[test]
fn labels_stay_powers_go_and_access_lists_are_not_broken() {
    let mut tree = MemoryTree::new();
    tree.directory("/etc")
        .xattr("security.selinux", b"etc_t")
        .file("/etc/x", b"k = 1\n")
        .xattr("security.selinux", b"x_t")
        .file("/etc/program", b"#!/bin/sh\n")
        .xattr("security.capability", b"cap")
        .xattr("user.a", b"b")
        .file("/etc/shared", b"s\n")
        .xattr("system.posix_acl_access", b"acl");
    let (plan, injected) = inject(
        tree,
        vec![
            fix(
                "f",
                &[
                    json!({"do": "set", "path": "/etc/x", "key": "k", "value": "2"}),
                    json!({"do": "write", "path": "/etc/new/y", "content": "y"}),
                    json!({"do": "write", "path": "/etc/program", "content": "y"}),
                ],
            ),
            fix(
                "shared",
                &[json!({"do": "attributes", "path": "/etc/shared", "mode": "0600"})],
            ),
        ],
    );
    let xattrs = |at: &str| {
        let found = injected.draft.get(&path(at), Follow::No).unwrap().unwrap();
        let all = found.attributes.xattrs.into_iter();
        all.map(|(name, value)| {
            format!(
                "{}={}",
                String::from_utf8(name).unwrap(),
                String::from_utf8(value).unwrap()
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(xattrs("/etc/x"), ["security.selinux=x_t"]);
    assert_eq!(xattrs("/etc/new"), ["security.selinux=etc_t"]);
    assert_eq!(xattrs("/etc/new/y"), ["security.selinux=etc_t"]);
    assert_eq!(xattrs("/etc/program"), ["user.a=b"]);
    let shared = plan.fixes[1].outcome.clone().unwrap();
    assert!(
        matches!(&shared, FixOutcome::Refused { why } if why.contains("access list")),
        "{shared:?}"
    );
}

#[test]
fn facts_are_as_their_schemas_say() {
    let mut tree = MemoryTree::new();
    tree.file("/etc/x", b"k = 1\n").file("/etc/gone", b"x");
    let (plan, injected) = inject(
        tree,
        vec![
            fix(
                "f",
                &[
                    json!({"do": "set", "path": "/etc/x", "key": "k", "value": "2", "section": "s", "ends-at": "e", "ignore-case": true, "create": true}),
                    json!({"do": "line", "path": "/etc/x", "line": "a", "matching": "b", "after": "c", "create": true}),
                    json!({"do": "line", "path": "/etc/x", "matching": "z", "state": "absent"}),
                    json!({"do": "write", "path": "/etc/y", "content": "y", "owner": "root", "group": 7, "mode": "0600"}),
                    json!({"do": "remove", "path": "/etc/gone"}),
                    json!({"do": "attributes", "path": "/etc/x", "mode": "0600"}),
                    json!({"do": "symlink", "path": "/etc/z", "target": "y"}),
                ],
            ),
            fix("again", &[json!({"do": "remove", "path": "/etc/gone"})]),
            fix("never", &[json!({"do": "remove", "path": "/etc"})]),
        ],
    );
    for (kind, fact) in [
        ("plan", serde_json::to_value(&plan).unwrap()),
        (
            "injection",
            serde_json::to_value(&injected.injection).unwrap(),
        ),
    ] {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../schemas/{kind}-v1.json"));
        let schema: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&fact)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{kind}: {errors:#?}\n{fact:#}");
        let mut more = fact.clone();
        more["fixes"][0]["surplus"] = true.into();
        assert!(
            !validator.is_valid(&more),
            "{kind} admits what it does not know"
        );
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
}

//! Files and settings: what is asked of a guest, and what its answers are judged to be.

use dormouse_block::Digest;
use dormouse_filesystem::{Guest, MemoryTree, NodeKind};
use dormouse_packages::observe;
use dormouse_policy::{Assessment, Baseline, Rule, Verdict};

use crate::world::{Known, NOW, guest, judge_knowing, offers};

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file(
        "/etc/passwd",
        b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/false\n",
    )
    .file("/etc/group", b"root:x:0:\nshadow:x:42:\n")
    .file("/etc/shadow", b"root:*:1::::::\n")
    .with(|metadata| {
        metadata.mode = 0o640;
        metadata.gid = 42;
    })
    .file("/srv/web", b"x")
    .with(|metadata| metadata.uid = 33)
    .symlink("/etc/dangling", "/nowhere")
    .special("/etc/pipe", NodeKind::Fifo)
    .file(
        "/etc/ssh/sshd_config",
        b"# PermitRootLogin yes\nPermitRootLogin yes\nMatch User a\nX11Forwarding yes\n",
    )
    .file(
        "/etc/ssh/sshd_config.d/10-root.conf",
        b"permitrootlogin NO\n",
    )
    .file("/etc/ssh/sshd_config.d/20-no.txt", b"PermitRootLogin yes\n")
    .file("/etc/login.defs", b"PASS_MAX_DAYS\t99999\n")
    .file("/etc/app.ini", b"level = 1\n[log]\nlevel = 3 ; three\n");
    tree
}

fn judge(checks: &str) -> Assessment {
    let text = format!("name = 'x'\n{checks}");
    let probes = Baseline::parse(&text).unwrap().probes();
    let observations = observe(&Guest::of(tree()), &probes);
    judge_knowing(
        &text,
        &guest(&["a 1"]),
        &offers(&[]),
        &Known {
            observations,
            ..Known::default()
        },
        NOW,
    )
}

#[test]
fn files_are_as_they_must_be_or_the_finding_says_how_they_are() {
    let digest = Digest::of("x");
    let other = Digest::of("y");
    for (check, found) in [
        (
            "path = '/etc/shadow'\nowner = 'root'\ngroup = 'shadow'\nmode = '0640'",
            None,
        ),
        (
            "path = '/etc/shadow'\nowner = 0\ngroup = 42\nmode-at-most = '0640'",
            None,
        ),
        ("path = '/etc/shadow'\nmode = '0600'", Some("mode 0640")),
        (
            "path = '/etc/shadow'\nmode-at-most = '0600'",
            Some("mode 0640"),
        ),
        ("path = '/etc/shadow'\ngroup = 'root'", Some("group shadow")),
        (
            "path = '/srv/web'\nowner = 'root'\ngroup = 'root'",
            Some("owner web"),
        ),
        ("path = '/srv/none'", Some("absent")),
        (
            "path = '/srv/none'\nstate = 'optional'\nmode = '0600'",
            None,
        ),
        ("path = '/srv/none'\nstate = 'absent'", None),
        ("path = '/etc/dangling'\nstate = 'absent'", Some("present")),
        ("path = '/etc/dangling'\nmode = '0777'", None),
        (
            &format!("path = '/srv/web'\ndigests = ['{digest}', '{other}']"),
            None,
        ),
        (
            &format!("path = '/srv/web'\ndigests = ['{other}']"),
            Some(&*digest.to_string()),
        ),
        (
            &format!("path = '/etc/pipe'\ndigests = ['{other}']"),
            Some("no regular file but a pipe"),
        ),
    ] {
        let assessment = judge(&format!(
            "[[file]]\nid = 'f'\nseverity = 'high'\nreason = 'so'\n{check}\n"
        ));
        let said = assessment
            .findings
            .first()
            .map(|one| one.check.clone().unwrap().found);
        assert_eq!(said.as_deref(), found, "{check}");
        assert_eq!(assessment.checks_right, usize::from(found.is_none()));
        let verdict = if found.is_none() {
            Verdict::Compliant
        } else {
            Verdict::NonCompliant
        };
        assert_eq!(assessment.verdict, verdict, "{check}");
        if let Some(finding) = assessment.findings.first() {
            assert_eq!((finding.package.as_str(), finding.rule), ("f", Rule::File));
            assert!(finding.why.ends_with(": so") && finding.severity.is_some());
            assert_eq!(assessment.reasons, ["1 file is not as it must be"]);
        }
    }
}

#[test]
fn settings_are_as_they_must_be_or_the_finding_says_what_they_are() {
    let ssh = "key = 'PermitRootLogin'\nseparator = ' '\nignore-case = true\nends-at = 'Match'\nvalues = ['no']\n\
        paths = ['/etc/ssh/sshd_config.d/*.conf', '/etc/ssh/sshd_config']\n";
    for (check, found) in [
        (format!("{ssh}counts = 'first'"), None),
        (format!("{ssh}counts = 'last'"), Some("yes (/etc/ssh/sshd_config line 2)")),
        (format!("{ssh}counts = 'every'"), Some("yes (/etc/ssh/sshd_config line 2)")),
        ("paths = ['/etc/ssh/sshd_config']\nkey = 'X11Forwarding'\nseparator = ' '\nends-at = 'Match'\nvalues = ['no']\ndefault = 'no'".into(), None),
        ("paths = ['/etc/ssh/sshd_config']\nkey = 'X11Forwarding'\nseparator = ' '\nends-at = 'Match'\nvalues = ['no']\ndefault = 'yes'".into(), Some("not set, which means yes")),
        ("paths = ['/etc/login.defs']\nkey = 'PASS_MAX_DAYS'\nseparator = ' '\nat-most = 365".into(), Some("99999 (/etc/login.defs line 1)")),
        ("paths = ['/etc/login.defs']\nkey = 'PASS_MAX_DAYS'\nseparator = ' '\nat-least = 1".into(), None),
        ("paths = ['/etc/app.ini']\nsection = 'log'\nkey = 'level'\nvalues = ['3']".into(), None),
        ("paths = ['/etc/app.ini']\nkey = 'level'\nat-least = 2\nat-most = 9".into(), Some("1 (/etc/app.ini line 1)")),
        ("paths = ['/etc/app.ini']\nsection = 'other'\nkey = 'level'\nvalues = ['3']".into(), Some("not set")),
        ("paths = ['/etc/none']\nkey = 'level'\nvalues = ['3']".into(), Some("no such file")),
    ] {
        let assessment = judge(&format!("[[setting]]\nid = 's'\n{check}\n"));
        let said = assessment.findings.first().map(|one| one.check.clone().unwrap().found);
        assert_eq!(said.as_deref(), found, "{check}");
    }
}

#[test]
fn a_check_that_was_not_answered_is_never_taken_for_right() {
    let text = "name = 'x'\n[[file]]\nid = 'f'\npath = '/etc/shadow'\n";
    let unasked = judge_knowing(text, &guest(&["a 1"]), &offers(&[]), &Known::default(), NOW);
    assert_eq!(unasked.verdict, Verdict::Indeterminate);
    assert!(unasked.unjudged.first().unwrap().contains("was not asked"));

    let mut large = MemoryTree::new();
    large.file("/etc/x", &vec![b'a'; (1 << 20) + 1]);
    let text = "name = 'x'\n[[setting]]\nid = 's'\npaths = ['/etc/x']\nkey = 'k'\nvalues = ['v']\n";
    let probes = Baseline::parse(text).unwrap().probes();
    let observations = observe(&Guest::of(large), &probes);
    let unread = judge_knowing(
        text,
        &guest(&["a 1"]),
        &offers(&[]),
        &Known {
            observations,
            ..Known::default()
        },
        NOW,
    );
    assert_eq!(unread.verdict, Verdict::Indeterminate);
    assert!(
        unread.reasons[0].contains("1 check could not be judged"),
        "{:?}",
        unread.reasons
    );
}

#[test]
fn answers_survive_being_written_down() {
    let text = "name = 'x'\n[[file]]\nid = 'f'\npath = '/etc/shadow'\n[[file]]\nid = 'g'\npath = '/no'\n\
        [[setting]]\nid = 's'\npaths = ['/etc/app.ini']\nkey = 'level'\nvalues = ['1']\n";
    let observations = observe(&Guest::of(tree()), &Baseline::parse(text).unwrap().probes());
    assert_eq!(observations.len(), 3);
    let json = serde_json::to_string(&observations).unwrap();
    let again: Vec<dormouse_packages::Observation> = serde_json::from_str(&json).unwrap();
    assert_eq!(again, observations);
}

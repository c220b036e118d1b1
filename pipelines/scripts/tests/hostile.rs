//! Scripts that loop, nest, write outside, read devices, or are broken: bounded and refused, never a panic.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use common::{Guests, call, draft_over, world};
use dormouse_scripts::{Deferral, Limits, Outcome, Reason, run};

fn tight() -> Limits {
    Limits {
        script: 1 << 20,
        steps: 200_000,
        depth: 100,
        object: 1 << 20,
        bytes: 8 << 20,
    }
}

fn deferral(script: &str) -> Deferral {
    let mut draft = Guests::plain().draft();
    let script = format!("#!/bin/sh\n{script}\n");
    match run(&call(script.as_bytes()), &mut draft, &world(), &tight()) {
        Outcome::Deferred(deferral) => {
            assert!(
                draft.differences().unwrap().is_empty(),
                "changes are left by {script}"
            );
            deferral
        }
        Outcome::Done(done) => panic!("interpreted: {script}\n{done:?}"),
    }
}

#[test]
fn endless_scripts_end() {
    for script in [
        "while :; do :; done",
        "until false; do x=$x$x; done",
        "f() { f; }; f",
        "f() { g; }; g() { f; }; f",
        "eval 'e() { eval e; }; e'",
        "x=a; while :; do x=$x$x; done",
        "while :; do echo x; done",
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done > /tmp/f",
        "i=0; while :; do i=$((i+1)); echo > /tmp/$i; done",
        "while :; do cd /; echo *; done",
        "echo x | sed ':a;ba'",
        "echo x | sed ':a;s/x/xx/g;ta'",
        "awk 'BEGIN { while (1) x = x \"y\" }'",
        "awk 'BEGIN { for (;;) i++ }'",
        "seq 1000000000 | wc -l",
        "echo '. /tmp/s' > /tmp/s; . /tmp/s",
        "printf '%s' '#!/bin/sh\n/tmp/s' > /tmp/s; chmod 755 /tmp/s; /tmp/s",
        "trap 'while :; do :; done' EXIT",
        "printf '%1000d%1000d' 1 2 | grep -E '((((a*)*)*)*)*b'; while :; do printf '%9999d' 1; done",
    ] {
        let deferral = deferral(script);
        assert_eq!(deferral.reason, Reason::Limit, "{script}: {deferral}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, middle, close) in [
        ("( ", "true", " )"),
        ("{ ", "true;", " };"),
        ("if true; then ", "true;", " fi;"),
        ("while true; do ", "break;", " done;"),
        ("$(", "true", ")"),
        ("\"$(", "true", ")\""),
        ("${x:-", "a", "}"),
        ("$((", "1", "))"),
        ("f() { ", "true;", " };"),
        ("case a in a) ", "true", ";; esac"),
        ("! ", "true", ""),
    ] {
        for depth in [70, 1000, 20_000] {
            if open.contains('$') {
                let script = format!("echo {}{middle}{}", open.repeat(depth), close.repeat(depth));
                let found = deferral(&script);
                assert!(
                    matches!(found.reason, Reason::Limit | Reason::Syntax),
                    "{open} {depth}: {found}"
                );
            }
            let script = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            let mut draft = Guests::plain().draft();
            let script = format!("#!/bin/sh\n{script}\n");
            run(&call(script.as_bytes()), &mut draft, &world(), &tight());
        }
    }
    let parentheses = format!("echo $(({}1{}))", "(".repeat(5000), ")".repeat(5000));
    deferral(&parentheses);
    deferral(&format!(
        "[ {} a {} ]; exit 1",
        "\\( ".repeat(5000),
        "\\) ".repeat(5000)
    ));
    deferral(&format!(
        "expr {} 1 {}; exit 1",
        "\\( ".repeat(5000),
        "\\) ".repeat(5000)
    ));
    deferral(&format!("find / {} -true; exit 1", "! ".repeat(5000)));
    deferral(&format!(
        "echo a | grep -E '{}a{}'; exit 1",
        "(".repeat(5000),
        ")".repeat(5000)
    ));
    deferral(&format!(
        "echo a | sed '{}p{}'; exit 1",
        "{".repeat(5000),
        "}".repeat(5000)
    ));
    deferral(&format!(
        "awk 'BEGIN {{ print {}1{} }}'; exit 1",
        "(".repeat(5000),
        ")".repeat(5000)
    ));
}

#[test]
fn a_running_system_is_not_seen() {
    for script in [
        "cat /proc/cpuinfo",
        "[ -e /proc/1 ]",
        "cat /sys/class/net/eth0/address",
        "echo x > /dev/sda",
        "ls /dev",
        "ln -s /proc/self /tmp/self; cat /tmp/self/environ",
        "uname -r",
        "cat ../../proc/mounts",
        "mkdir /dev/x",
    ] {
        let deferral = deferral(script);
        assert_eq!(deferral.reason, Reason::Running, "{script}: {deferral}");
    }
    for script in ["cat", "read x", "xargs rm"] {
        assert_eq!(deferral(script).reason, Reason::Question, "{script}");
    }
}

#[test]
fn what_is_not_interpreted_is_named() {
    let mut guests = Guests::plain();
    guests
        .tree
        .file("/usr/bin/frobnicate", b"\x7fELF")
        .with(|metadata| metadata.mode = 0o755);
    let mut draft = guests.draft();
    let script = b"#!/bin/sh\nset -e\ntouch /etc/made\nfrobnicate --now\n";
    let Outcome::Deferred(found) = run(&call(script), &mut draft, &world(), &tight()) else {
        panic!("interpreted");
    };
    assert_eq!(found.command.as_deref(), Some("frobnicate"));
    assert_eq!((found.line, found.reason), (Some(4), Reason::Command));
    assert!(draft.differences().unwrap().is_empty());
    for (script, reason) in [
        ("#!/usr/bin/perl\nprint 1;\n", Reason::Interpreter),
        ("echo no first line\n", Reason::Interpreter),
        ("#!/bin/bash\na=(1 2)\n", Reason::Syntax),
        ("#!/bin/bash\n[[ a == b ]]\n", Reason::Syntax),
        ("#!/bin/bash\necho {a,b}\n", Reason::Syntax),
        ("#!/bin/sh\necho ${x/a/b}\n", Reason::Syntax),
        ("#!/bin/sh\nif true; then\n", Reason::Syntax),
        ("#!/bin/sh\nexit 3\n", Reason::Failed),
        ("#!/bin/sh\nset -e\nfalse\n", Reason::Failed),
        ("#!/bin/sh\nrm --frob x\n", Reason::Usage),
        ("#!/bin/sh\nsleep 1 &\n", Reason::Usage),
    ] {
        let Outcome::Deferred(found) =
            run(&call(script.as_bytes()), &mut draft, &world(), &tight())
        else {
            panic!("interpreted: {script}");
        };
        assert_eq!(found.reason, reason, "{script}: {found}");
    }
}

/// A small generator of numbers (xorshift), so that every run tries the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

const PIECES: &[&str] = &[
    "$(",
    ")",
    "`",
    "\"",
    "'",
    "${",
    "}",
    "((",
    "))",
    "|",
    "||",
    "&&",
    ";",
    ";;",
    "&",
    "<",
    ">",
    ">>",
    "<<X\n",
    "\nX\n",
    "\n",
    "if ",
    " then ",
    " fi ",
    "while ",
    " do ",
    " done ",
    "case ",
    " in ",
    " esac ",
    "{ ",
    "! ",
    "*",
    "?",
    "[",
    "]",
    "\\",
    "$",
    "$@",
    "\"$@\"",
    "#",
    "~",
    "=",
    "set -e;",
    "exit ",
    "eval ",
    "trap ",
    "f() ",
    "local ",
    "IFS=x ",
    "\0",
    "\u{e9}",
    "9999999999999999999",
];

#[test]
fn mutated_scripts_neither_panic_nor_leave_changes() {
    let text = include_str!("snippets.txt");
    let snippets: Vec<&str> = text.split("\n%%\n").collect();
    let guest = Guests::plain().guest();
    let world = world();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut outcomes = [0_u32; 2];
    for _ in 0..2500 {
        let mut script = snippets[numbers.next(snippets.len())].as_bytes().to_vec();
        for _ in 0..=numbers.next(6) {
            let at = numbers.next(script.len() + 1);
            match numbers.next(5) {
                0 => {
                    let piece = PIECES[numbers.next(PIECES.len())].as_bytes();
                    script.splice(at..at, piece.iter().copied());
                }
                1 if at < script.len() => {
                    script.remove(at);
                }
                2 => script.truncate(at),
                3 => {
                    let other = snippets[numbers.next(snippets.len())].as_bytes();
                    script.splice(at..at, other.iter().copied());
                }
                _ if at < script.len() => script[at] = u8::try_from(numbers.next(256)).unwrap(),
                _ => {}
            }
        }
        let script = [b"#!/bin/sh\ncd /work\n", script.as_slice()].concat();
        let mut draft = draft_over(&guest);
        match run(&call(&script), &mut draft, &world, &tight()) {
            Outcome::Done(_) => outcomes[0] += 1,
            Outcome::Deferred(_) => {
                outcomes[1] += 1;
                assert!(draft.differences().unwrap().is_empty());
            }
        }
    }
    assert!(outcomes.iter().all(|&count| count > 100), "{outcomes:?}");
}

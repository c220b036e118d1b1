//! The evaluator and the commands against dash and the host's own tools: the same output and exit status for every
//! snippet of `snippets.txt`.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use common::{Guests, required, run_snippet};

/// Snippets that are deferred rather than interpreted, by what they hold, and why.
const DEFERRED: &[(&str, &str)] = &[("true & wait", "runs a command in the background")];

#[test]
fn snippets_do_what_dash_does() {
    required(&[
        "dash", "sed", "grep", "find", "xargs", "sort", "stat", "install",
    ]);
    let text = include_str!("snippets.txt");
    let mut differences = Vec::new();
    let mut compared = 0;
    for snippet in text.split("\n%%\n") {
        let folder = tempfile::tempdir().unwrap();
        let expected = std::process::Command::new("dash")
            .args(["-c", snippet])
            .current_dir(folder.path())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let ours = run_snippet(&Guests::plain(), snippet);
        let deferred = DEFERRED.iter().find(|(part, _)| snippet.contains(part));
        match (ours, deferred) {
            (Ok((status, out)), None) => {
                compared += 1;
                let status_expected = expected.status.code().unwrap();
                if status != status_expected || out != expected.stdout {
                    differences.push(format!(
                        "{snippet}\n--- dash, status {status_expected}:\n{}\n--- ours, status {status}:\n{}",
                        String::from_utf8_lossy(&expected.stdout),
                        String::from_utf8_lossy(&out)
                    ));
                }
            }
            (Err(why), Some((_, reason))) if why.contains(reason) => {}
            (Err(why), _) => differences.push(format!("{snippet}\n--- deferred: {why}")),
            (Ok(_), Some(_)) => differences.push(format!("{snippet}\n--- should be deferred")),
        }
    }
    assert!(compared >= 300, "only {compared} snippets were compared");
    assert!(
        differences.is_empty(),
        "{} of {compared} differ:\n\n{}",
        differences.len(),
        differences.join("\n==========\n")
    );
}

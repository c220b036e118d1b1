//! Holds the crates' edges to the table of layers: a lower row never imports a higher one.

#![expect(
    clippy::indexing_slicing,
    reason = "an unexpected shape of cargo's answer must fail the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The rows from the lowest up, each with the rows that it may import.
const TABLE: &[(&str, &[&str])] = &[
    ("dormouse-block", &[]),
    ("dormouse-disk", &["block"]),
    ("dormouse-volume", &["block"]),
    ("dormouse-filesystem", &["block", "volume"]),
    (
        "dormouse-overlay",
        &["block", "disk", "volume", "filesystem"],
    ),
    ("dormouse-packages", &["block", "filesystem"]),
    ("dormouse-advisories", &["block", "packages"]),
    ("dormouse-policy", &["block", "packages", "advisories"]),
    (
        "dormouse-scripts",
        &["block", "filesystem", "overlay", "packages"],
    ),
    (
        "dormouse-remedy",
        &[
            "block",
            "filesystem",
            "overlay",
            "packages",
            "advisories",
            "policy",
            "scripts",
        ],
    ),
    (
        "dormouse-evidence",
        &["block", "packages", "policy", "remedy"],
    ),
    (
        "dormouse-engine",
        &[
            "block",
            "disk",
            "volume",
            "filesystem",
            "overlay",
            "packages",
            "advisories",
            "policy",
            "scripts",
            "remedy",
            "evidence",
        ],
    ),
    (
        "dormouse",
        &[
            "block",
            "disk",
            "filesystem",
            "packages",
            "advisories",
            "policy",
            "remedy",
            "evidence",
            "engine",
        ],
    ),
];

/// Crates that may be named by these rows alone.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rayon", &["dormouse-engine"]),
    ("anyhow", &["dormouse"]),
    ("clap", &["dormouse"]),
    ("indicatif", &["dormouse"]),
    ("rusqlite", &["dormouse-engine"]),
    ("pgp", &["dormouse-advisories"]),
    ("quick-xml", &["dormouse-advisories"]),
    ("cvss", &["dormouse-advisories"]),
];

fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let normal = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap_or_default().to_owned());
            (
                package["name"].as_str().unwrap_or_default().to_owned(),
                normal.collect(),
            )
        })
        .collect()
}

#[test]
fn lower_rows_never_import_higher_ones() {
    let edges = edges();
    let rows: BTreeSet<&str> = TABLE.iter().map(|(row, _)| *row).collect();
    let crates: BTreeSet<&str> = edges.keys().map(String::as_str).collect();
    assert_eq!(
        rows, crates,
        "the table and the workspace name the same crates"
    );
    for (row, allowed) in TABLE {
        for dependency in &edges[*row] {
            if let Some(name) = dependency.strip_prefix("dormouse-") {
                assert!(
                    allowed.contains(&name),
                    "{row} must not import {dependency}"
                );
            }
        }
    }
}

#[test]
fn the_table_itself_only_points_down() {
    let rank = |name: &str| {
        TABLE
            .iter()
            .position(|(row, _)| row.strip_prefix("dormouse-") == Some(name))
    };
    for (index, (row, allowed)) in TABLE.iter().enumerate() {
        for name in *allowed {
            let below = rank(name).unwrap_or_else(|| panic!("{row} names {name}, which is no row"));
            assert!(below < index, "{row} must not stand below {name}");
        }
    }
}

#[test]
fn some_crates_stay_where_they_belong() {
    let edges = edges();
    for (dependency, rows) in ONLY_IN {
        for (row, names) in &edges {
            if names.contains(*dependency) {
                assert!(
                    rows.contains(&row.as_str()),
                    "{row} must not name {dependency}"
                );
            }
        }
    }
}

//! `dormouse feed`.

use anyhow::bail;
use dormouse_advisories::{Keyring, Repository, Selection, Suite};
use dormouse_block::Gap;
use serde::Serialize;

use super::target::say_gaps;
use crate::answer::Answer;
use crate::cli::{Feed, FeedAction};
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    schema: &'static str,
    suites: Vec<&'a Suite>,
    gaps: Vec<&'a Gap>,
}

/// Verifies or lists repositories.
///
/// # Errors
/// A repository without a good signature.
pub(crate) fn run(arguments: &Feed, settings: &Settings) -> anyhow::Result<Exit> {
    if settings.global.repo.is_empty() {
        bail!("no repository to look at; give --repo DIR");
    }
    let Some(keyring) = &settings.global.keyring else {
        bail!("no keys to verify with; give --keyring FILE");
    };
    let keyring = Keyring::read(keyring)?;
    let mut repositories = Vec::new();
    for folder in &settings.global.repo {
        repositories.push(Repository::open(
            folder,
            &keyring,
            &Selection::default(),
            settings.as_of(),
        )?);
    }
    let suites: Vec<&Suite> = repositories.iter().flat_map(Repository::suites).collect();
    let gaps: Vec<&Gap> = repositories.iter().flat_map(Repository::gaps).collect();
    let answer = Answer::new(settings);
    if answer.is_table() {
        let mut table = answer.table(&[
            "Suite",
            "Date",
            "Valid until",
            "State",
            "Packages",
            "Signed by",
        ]);
        for suite in &suites {
            let packages: usize = suite.indices.iter().map(|index| index.packages).sum();
            let signers: Vec<_> = suite
                .signers
                .iter()
                .map(|signer| signer.primary.as_str())
                .collect();
            table.add([
                suite.name().to_owned(),
                suite.date.map(|date| date.to_string()).unwrap_or_default(),
                suite
                    .valid_until
                    .map(|date| date.to_string())
                    .unwrap_or_default(),
                if suite.stale { "stale" } else { "ok" }.to_owned(),
                packages.to_string(),
                signers.join(" "),
            ]);
        }
        answer.bytes(table.text().as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/feeds/v1",
            suites,
            gaps: gaps.clone(),
        })?;
    }
    let exit = say_gaps(gaps, settings);
    Ok(match arguments.action {
        FeedAction::Verify => exit,
        FeedAction::List => Exit::Done,
    })
}

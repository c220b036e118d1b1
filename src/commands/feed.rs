//! `dormouse feed`.

use anyhow::bail;
use dormouse_advisories::{
    Advisories, Feed as Advisory, FeedAccess, FeedSignature, Keyring, Repository, Selection, Suite,
};
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    advisories: &'a [Advisory],
    gaps: Vec<&'a Gap>,
}

/// Verifies or lists repositories and advisory feeds.
///
/// # Errors
/// A repository without a good signature.
pub(crate) fn run(arguments: &Feed, settings: &Settings) -> anyhow::Result<Exit> {
    if settings.global.repo.is_empty() && settings.global.feed.is_empty() {
        bail!("nothing to look at; give --repo DIR or --feed FILE");
    }
    let keyring = match &settings.global.keyring {
        Some(keyring) => Keyring::read(keyring)?,
        None if settings.global.repo.is_empty() => Keyring::default(),
        None => bail!("no keys to verify with; give --keyring FILE"),
    };
    let access = FeedAccess {
        keyring: settings.global.keyring.is_some().then_some(&keyring),
        as_of: settings.as_of(),
        cache: None,
    };
    let advisories = Advisories::read_with(&settings.global.feed, &access)?;
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
        let mut text = table.text();
        if !advisories.is_empty() {
            let mut table = answer.table(&["Feed", "Date", "Signature", "Statements", "Digest"]);
            for feed in advisories.feeds() {
                let signature = match &feed.signature {
                    FeedSignature::Unsigned => "none".to_owned(),
                    FeedSignature::Unchecked => "not checked".to_owned(),
                    FeedSignature::Good { signers } => {
                        let keys = signers.iter().map(|signer| signer.primary.as_str());
                        keys.collect::<Vec<_>>().join(" ")
                    }
                };
                table.add([
                    feed.name.clone(),
                    feed.date.map(|date| date.to_string()).unwrap_or_default(),
                    signature,
                    feed.entries.to_string(),
                    feed.digest.to_string(),
                ]);
            }
            text.push('\n');
            text.push_str(&table.text());
        }
        answer.bytes(text.as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/feeds/v1",
            suites,
            advisories: advisories.feeds(),
            gaps: gaps.clone(),
        })?;
    }
    let exit = say_gaps(gaps, settings);
    Ok(match arguments.action {
        FeedAction::Verify => exit,
        FeedAction::List => Exit::Done,
    })
}

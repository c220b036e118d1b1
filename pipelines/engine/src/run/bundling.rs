//! The bundle of a run: one for all the catch-up plans that it made.

use std::collections::BTreeMap;
use std::path::Path;

use dormouse_block::{Digest, Error, ErrorKind, Gap, Locator, Result};
use dormouse_evidence::{Envelope, Statement, Subject};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Point, Run};
use crate::bundle::{BundleForm, BundleOptions, plan_name, write_bundle};
use crate::change::{Decision, OutputFile};
use crate::subjects::file_digest;
use crate::work::ends_the_run;
use crate::{BundleChoice, StageName, host};

/// What a statement about the bundle of a run claims.
const PREDICATE: &str = "urn:dormouse:predicate:run-bundle:v1";
/// Where the bundle's statement stands within the results.
const EVIDENCE: &str = "evidence/bundle.dsse.json";

/// The bundle that a run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RunBundle {
    /// The bundle; of a folder, its signed manifest.
    pub(super) file: OutputFile,
}

impl RunBundle {
    /// Changes when bundles change.
    const VERSION: &'static str = "dormouse/run-bundle/v1";
}

impl Run<'_> {
    /// As [`Run::bundle`], but that what keeps one from being written is a gap of the run.
    pub(super) fn bundle_or_gap(&mut self, points: &[Point]) -> Result<Option<RunBundle>> {
        match self.bundle(points) {
            Err(error) if !ends_the_run(&error) && error.kind() != ErrorKind::Io => {
                let at = Locator::default();
                self.work.observer.note(&at, &error.with_causes());
                self.gaps.push(Gap::from_error(&error, &at));
                Ok(None)
            }
            other => other,
        }
    }

    /// Writes the bundle of all catch-up plans, where the pipeline wants one and there are any.
    fn bundle(&self, points: &[Point]) -> Result<Option<RunBundle>> {
        let (form, path) = match self.options.pipeline.bundle {
            BundleChoice::None => return Ok(None),
            BundleChoice::Folder => (BundleForm::Folder, "catch-up/bundle"),
            BundleChoice::Iso => (BundleForm::Iso, "catch-up/bundle.iso"),
        };
        let Some(signer) = self.signer else {
            return Err(Error::denied(
                "a bundle is signed, and there is no key to sign it with",
            ));
        };
        let decisions: Vec<Digest> = points.iter().filter_map(|point| point.decision).collect();
        let mut plans = BTreeMap::new();
        for point in points.iter().filter(|point| point.decision.is_some()) {
            if let Decision::CatchUp { plan } = self.load(point.decision)? {
                plans.insert(plan_name(&plan), *plan);
            }
        }
        if plans.is_empty() {
            return Ok(None);
        }
        let output = &self.options.output;
        let within = match form {
            BundleForm::Iso => path.to_owned(),
            BundleForm::Folder => format!("{path}/{}", dormouse_remedy::MANIFEST_SEAL),
        };
        let input = (
            RunBundle::VERSION,
            &decisions,
            form,
            output,
            signer.key_id(),
        );
        let holds = |made: &RunBundle| {
            std::fs::metadata(output.join(&made.file.path))
                .is_ok_and(|found| found.len() == made.file.bytes)
                && output.join(EVIDENCE).is_file()
        };
        let make = || {
            clear_partial(&output.join("catch-up"))?;
            let options = BundleOptions {
                repositories: &self.standard.repositories,
                signer,
                tool: &self.options.tool,
                replace: true,
            };
            let written = write_bundle(&plans, &output.join(path), &options)?;
            let bytes = std::fs::metadata(output.join(&within)).map_err(|error| {
                Error::io("cannot look at the bundle", error).in_file(within.as_str())
            })?;
            let file = OutputFile {
                digest: file_digest(&self.work, &output.join(&within))?,
                path: within.clone(),
                bytes: bytes.len(),
            };
            let statement = Statement::new(
                vec![Subject::new(format!("output:{within}"), file.digest)],
                PREDICATE,
                json!({"tool": self.options.tool, "bundle": written.bundle}),
            );
            let seal = Envelope::seal(&statement, signer)?.to_json()?;
            host::publish(&output.join(EVIDENCE), &seal)?;
            Ok(RunBundle { file })
        };
        let at = Locator::default();
        let key = self
            .work
            .once_if(StageName::Attest, &at, &input, holds, make)?;
        self.work.load(key).map(Some)
    }
}

/// Removes what a killed run left half-written.
fn clear_partial(folder: &Path) -> Result<()> {
    let fail =
        |error| Error::io("cannot clear away a partial bundle", error).in_file(folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(".dormouse-") {
            continue;
        }
        if entry.file_type().map_err(fail)?.is_dir() {
            std::fs::remove_dir_all(entry.path()).map_err(fail)?;
        } else {
            std::fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    Ok(())
}

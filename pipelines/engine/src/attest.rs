//! Attest: everything known of a restore point, as a signed statement about its files.

use std::path::Path;

use dormouse_block::{Digest, Error, Gap, Result};
use dormouse_evidence::{Envelope, Signer, Statement, Subject};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::names::{file_name, machine_path};
use crate::report::PointResult;
use crate::run::{RunOptions, library_folder};
use crate::subjects::{chain, memory_digest, memory_name, point_subjects};
use crate::work::Work;
use crate::{OpenMachine, Standard, host};

/// What a statement of ours claims.
const PREDICATE: &str = "urn:dormouse:predicate:restore-point:v1";

/// Where a restore point's evidence stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Attestation {
    /// The envelope's path within the results.
    pub path: String,
    /// The envelope's digest.
    pub digest: Digest,
    /// The inventory's path within the results.
    pub inventory: String,
}

impl Attestation {
    /// Changes when what a statement says changes.
    pub const VERSION: &'static str = "dormouse/attestation/v1";

    /// Whether the envelope still stands among the results as it was written.
    #[must_use]
    pub fn stands(&self, output: &Path) -> bool {
        let same = |bytes: Vec<u8>| Digest::of(bytes) == self.digest;
        host::read_bytes(&output.join(&self.path), 64 << 20).is_ok_and(same)
            && output.join(&self.inventory).is_file()
    }
}

/// Writes the inventory and the signed statement of a restore point among the results.
///
/// # Errors
/// Host files that cannot be read or written. A restore point whose disk cannot be read whole is attested by its host
/// files alone, and the statement says so.
pub(crate) fn attest(
    work: &Work<'_>,
    options: &RunOptions,
    standard: &Standard,
    signer: &(dyn Signer + Sync),
    machine: &OpenMachine,
    result: &PointResult,
) -> Result<Attestation> {
    let library = library_folder(&options.library);
    let point = &result.info;
    let mut subjects = chain(work, &library, machine.files())?;
    let mut unread = Vec::new();
    match point_subjects(work, machine, &point.id) {
        Ok(disks) => subjects.extend(disks),
        Err(error) => unread.push(unreadable(error, result)?),
    }
    match memory_digest(work, machine, &point.id) {
        Ok(Some(digest)) => {
            subjects.push(Subject::new(memory_name(&machine.name, &point.id), digest));
        }
        Ok(None) => {}
        Err(error) => unread.push(unreadable(error, result)?),
    }
    let stem = format!("{}/{}", machine_path(&machine.name), file_name(&point.id));
    let inventories: Vec<_> = result
        .inspection
        .iter()
        .flat_map(|inspection| inspection.systems.iter().map(|system| &system.inventory))
        .collect();
    let inventory = format!("inventory/{stem}.json");
    let inventory_digest = publish_json(
        options,
        &inventory,
        &json!({"schema": "dormouse/inventories/v1", "inventories": inventories, "gaps": result.point_gaps()}),
    )?;
    subjects.push(Subject::new(
        format!("output:{inventory}"),
        inventory_digest,
    ));
    for (path, digest) in result.output_digests() {
        subjects.push(Subject::new(format!("output:{path}"), digest));
    }
    let predicate = json!({
        "tool": options.tool,
        "as-of": standard.as_of.to_string(),
        "machine": machine.name,
        "point": point,
        "power": result.inspection.as_ref().map(|inspection| &inspection.power),
        "power-evidence": result.inspection.as_ref().map(|inspection| &inspection.evidence),
        "memory": result.inspection.as_ref().map(|inspection| &inspection.memory),
        "verdict": result.verdict().as_str(),
        "complete": result.complete(),
        "baseline": { "name": standard.baseline.name, "digest": standard.baseline.digest() },
        "suites": standard.releases.suites(),
        "assessments": result.assessments,
        "gaps": result.gaps(),
        "unread-subjects": unread,
        "decision": result.decision,
        "done": result.done,
        "verified": result.verified,
    });
    let statement = Statement::new(subjects, PREDICATE, predicate);
    let bytes = Envelope::seal(&statement, signer)?.to_json()?;
    let path = format!("evidence/{stem}.dsse.json");
    host::publish(&options.output.join(&path), &bytes)?;
    Ok(Attestation {
        path,
        digest: Digest::of(&bytes),
        inventory,
    })
}

/// The gap for a subject that could not be read; being asked to stop is no gap.
fn unreadable(error: Error, result: &PointResult) -> Result<Gap> {
    if crate::work::ends_the_run(&error) {
        return Err(error);
    }
    Ok(Gap::from_error(&error, &result.at))
}

fn publish_json(options: &RunOptions, path: &str, document: &serde_json::Value) -> Result<Digest> {
    let mut bytes = serde_json::to_vec_pretty(document)
        .map_err(|error| Error::corrupt("a document cannot be written").because(error))?;
    bytes.push(b'\n');
    host::publish(&options.output.join(path), &bytes)?;
    Ok(Digest::of(&bytes))
}

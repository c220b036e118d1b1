//! `dormouse verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use dormouse_block::{Digest, Error, HostFile, Result, digest_of};
use dormouse_engine::{Found, OpenMachine, discover, host, parse_point};
use dormouse_evidence::{Mismatch, verify};
use serde::Serialize;

use super::key::read_public;
use crate::answer::Answer;
use crate::cli::Verify;
use crate::exit::Exit;
use crate::settings::Settings;

const MAX_EVIDENCE: u64 = 64 << 20;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    evidence: Vec<One>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct One {
    file: String,
    signed_by: Option<String>,
    subjects: usize,
    compared: usize,
    not_compared: Vec<String>,
    mismatches: Vec<Mismatch>,
    error: Option<String>,
}

/// Checks evidence: its signature, and the digests of every subject whose bytes are at hand.
///
/// # Errors
/// A missing key, and files that cannot be read.
pub(crate) fn run(arguments: &Verify, settings: &Settings) -> anyhow::Result<Exit> {
    let Some(key) = &settings.global.key else {
        bail!("no key to verify with; give --key FILE (a public key, or the signing key itself)");
    };
    let key = read_public(key)?;
    let mut digests = Digests::new(arguments.library.as_deref(), settings);
    let mut document = Document {
        schema: "dormouse/verify/v1",
        evidence: Vec::new(),
    };
    for file in &arguments.evidence {
        let bytes = host::read_bytes(file, MAX_EVIDENCE)?;
        let results = arguments.results.clone().or_else(|| results_of(file));
        let mut one = One {
            file: file.display().to_string(),
            signed_by: None,
            subjects: 0,
            compared: 0,
            not_compared: Vec::new(),
            mismatches: Vec::new(),
            error: None,
        };
        match verify(&bytes, std::slice::from_ref(&key)) {
            Err(error) => one.error = Some(error.with_causes()),
            Ok(verified) => {
                one.signed_by = Some(verified.key.key_id());
                one.subjects = verified.statement.subject.len();
                digests.results = results;
                digests.bundle = file.parent().map(Path::to_owned);
                let (known, unknown): (Vec<_>, Vec<_>) = verified
                    .statement
                    .subject
                    .iter()
                    .cloned()
                    .partition(|subject| digests.has(&subject.name));
                one.compared = known.len();
                one.not_compared = unknown.into_iter().map(|subject| subject.name).collect();
                let mut at_hand = verified;
                at_hand.statement.subject = known;
                one.mismatches = at_hand.check(|name| digests.of(name));
            }
        }
        document.evidence.push(one);
    }
    let bad = document
        .evidence
        .iter()
        .any(|one| one.error.is_some() || !one.mismatches.is_empty());
    let answer = Answer::new(settings);
    if answer.is_table() {
        answer.text(&draw(&document))?;
    } else {
        answer.json(&document)?;
    }
    Ok(if bad { Exit::Findings } else { Exit::Done })
}

fn draw(document: &Document) -> String {
    let mut out = String::new();
    for one in &document.evidence {
        let verdict = if one.error.is_none() && one.mismatches.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        out.push_str(&format!("{verdict:<7} {}", one.file));
        if let Some(error) = &one.error {
            out.push_str(&format!(": {error}"));
        } else {
            out.push_str(&format!(
                ": signature good, {} of {} subjects compared",
                one.compared, one.subjects
            ));
        }
        out.push('\n');
        for mismatch in &one.mismatches {
            out.push_str(&format!("        {}: {}\n", mismatch.subject, mismatch.why));
        }
    }
    out
}

/// Evidence stands at `<results>/evidence/…`.
fn results_of(evidence: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(evidence).ok()?;
    let folder = absolute
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "evidence"))?;
    folder.parent().map(Path::to_owned)
}

/// Computes the digests of subjects, each once.
struct Digests<'a> {
    library: Option<&'a Path>,
    results: Option<PathBuf>,
    /// The folder that the evidence stands in, which is its bundle where it is that of one.
    bundle: Option<PathBuf>,
    settings: &'a Settings,
    known: BTreeMap<String, Digest>,
    machines: Option<BTreeMap<String, Found>>,
}

impl<'a> Digests<'a> {
    fn new(library: Option<&'a Path>, settings: &'a Settings) -> Self {
        Self {
            library,
            results: None,
            bundle: None,
            settings,
            known: BTreeMap::new(),
            machines: None,
        }
    }

    /// Whether the bytes of a subject are said to be at hand.
    fn has(&self, name: &str) -> bool {
        match name.split_once(':') {
            Some(("output", _)) => self.results.is_some(),
            Some(("bundle", _)) => self.bundle.is_some(),
            _ => self.library.is_some(),
        }
    }

    fn of(&mut self, name: &str) -> Result<Option<Digest>> {
        let folder = match name.split_once(':') {
            Some(("output", _)) => self.results.as_ref(),
            Some(("bundle", _)) => self.bundle.as_ref(),
            _ => None,
        };
        let key = match folder {
            Some(folder) => format!("{}:{name}", folder.display()),
            None => name.to_owned(),
        };
        if let Some(digest) = self.known.get(&key) {
            return Ok(Some(*digest));
        }
        let digest = self.compute(name)?;
        if let Some(digest) = digest {
            self.known.insert(key, digest);
        }
        Ok(digest)
    }

    fn compute(&mut self, name: &str) -> Result<Option<Digest>> {
        let Some((kind, rest)) = name.split_once(':') else {
            return Err(Error::unsupported(format!(
                "a subject of an unknown kind: {name}"
            )));
        };
        let below = |folder: Option<&Path>| -> Result<Option<Digest>> {
            let Some(folder) = folder else {
                return Ok(None);
            };
            let path = folder.join(rest);
            if !path.is_file() {
                return Ok(None);
            }
            digest_of(&HostFile::open(&path)?).map(Some)
        };
        match kind {
            "source" => below(self.library),
            "output" => below(self.results.as_deref()),
            "bundle" => below(self.bundle.as_deref()),
            "point" | "disk" | "memory" => {
                let (disk, rest) = match (kind, rest.split_once(':')) {
                    ("disk", Some((disk, rest))) => (disk, rest),
                    _ => ("disk0", rest),
                };
                let (machine, point) = parse_point(rest)?;
                let Some(machine) = self.machine(machine)? else {
                    return Ok(None);
                };
                if kind == "memory" {
                    return match machine.memory(point)? {
                        Some(memory) => digest_of(&memory).map(Some),
                        None => Ok(None),
                    };
                }
                let mut disks = machine.disks(point)?.into_iter();
                match disks.find(|(name, _)| name == disk) {
                    Some((_, source)) => digest_of(&source).map(Some),
                    None => Ok(None),
                }
            }
            _ => Err(Error::unsupported(format!(
                "a subject of an unknown kind: {name}"
            ))),
        }
    }

    fn machine(&mut self, name: &str) -> Result<Option<OpenMachine>> {
        let Some(library) = self.library else {
            return Ok(None);
        };
        if self.machines.is_none() {
            let found = discover(library)?.machines;
            self.machines = Some(
                found
                    .into_iter()
                    .map(|found| (found.name.clone(), found))
                    .collect(),
            );
        }
        let Some(found) = self
            .machines
            .as_ref()
            .and_then(|machines| machines.get(name))
        else {
            return Ok(None);
        };
        let mut options = self
            .settings
            .machine_options(&found.path)
            .map_err(|error| Error::denied(error.to_string()))?;
        options.gate = std::sync::Arc::new(dormouse_disk::LibraryGate::new(
            std::iter::once(library.to_owned())
                .chain(self.settings.global.allow_backing.iter().cloned()),
        )?);
        OpenMachine::open_found(found, &options).map(Some)
    }
}

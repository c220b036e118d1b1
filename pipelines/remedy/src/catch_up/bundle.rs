//! What a machine, or many alike, needs to catch up without a network: package files, scripts, and a manifest of all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dormouse_block::{Digest, Error, Locator, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::script::check_word;
use super::{CatchUp, CatchUpStep};

/// The label of a bundle's file system, where it is an ISO 9660 image.
pub const BUNDLE_LABEL: &str = "DORMOUSE";
/// The manifest's name within a bundle.
pub const MANIFEST: &str = "manifest.json";
/// The name of the signed statement about a bundle's files within it.
pub const MANIFEST_SEAL: &str = "manifest.dsse.json";
/// The name of the script that finds the plan of the machine it runs in.
pub const DISPATCHER: &str = "catch-up.sh";
/// The names of the digests in the form that sha256sum checks.
const SUMS: &str = "SHA256SUMS";
/// The dispatcher's fixed part.
const DISPATCH: &str = include_str!("dispatch.sh");
/// Most plans of one bundle.
const MAX_PLANS: usize = 100_000;

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundle {
    /// [`Bundle::SCHEMA`].
    pub schema: String,
    /// The instant planned for.
    pub as_of: Timestamp,
    /// Whose plans are in it.
    pub plans: Vec<BundledPlan>,
    /// Every package file, once each, by its path in the bundle.
    pub packages: BTreeMap<String, BundleFile>,
}

/// One machine's plan in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BundledPlan {
    /// Whose.
    pub at: Locator,
    /// By what the dispatcher knows it: its path below `plans`, without an ending.
    pub name: String,
    /// The machine's own id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The digest by which its script names it.
    pub plan: Digest,
    /// The paths in the bundle of the package files that it needs, in its order.
    pub packages: Vec<String>,
}

/// A package file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BundleFile {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// `name:architecture`.
    pub package: String,
    /// Its version.
    pub version: String,
}

impl Bundle {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/bundle/v1";

    /// The bundle of some plans, each under a name such as `web-01/active`.
    ///
    /// # Errors
    /// `Corrupt` for a name that a script could not carry, two plans of one name, or no plan at all; `Limit` for more than
    /// a hundred thousand.
    pub fn of(plans: &BTreeMap<String, CatchUp>) -> Result<Self> {
        let Some(first) = plans.values().next() else {
            return Err(Error::corrupt("a bundle without a plan"));
        };
        if plans.len() > MAX_PLANS {
            return Err(Error::limit(format!(
                "a bundle of more than {MAX_PLANS} plans"
            )));
        }
        let mut packages: BTreeMap<String, BundleFile> = BTreeMap::new();
        let mut bundled = Vec::new();
        for (name, plan) in plans {
            check_name(name)?;
            let mut needs = Vec::new();
            for step in &plan.steps {
                let CatchUpStep::Install {
                    package,
                    to,
                    file,
                    payload,
                    size,
                    ..
                } = step
                else {
                    continue;
                };
                check_word(file)?;
                let entry = BundleFile {
                    digest: *payload,
                    size: *size,
                    package: package.clone(),
                    version: to.clone(),
                };
                let plain = format!("packages/{file}");
                // Two repositories may call two files by one name: the later stands in a folder named by its digest.
                let path = match packages.get(&plain) {
                    Some(there) if there.digest != *payload => {
                        format!("packages/{}/{file}", payload.hex())
                    }
                    _ => plain,
                };
                packages.entry(path.clone()).or_insert(entry);
                needs.push(path);
            }
            bundled.push(BundledPlan {
                at: plan.at.clone(),
                name: name.clone(),
                machine_id: plan.machine_id.clone(),
                plan: plan.digest()?,
                packages: needs,
            });
        }
        Ok(Self {
            schema: Self::SCHEMA.to_owned(),
            as_of: first.as_of,
            plans: bundled,
            packages,
        })
    }

    /// The bytes of all package files.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.packages
            .values()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// The texts of the bundle by their paths: the manifest, the dispatcher, and each plan as a fact, a script, user data
    /// of cloud-init and a playbook.
    ///
    /// # Errors
    /// As those of the renderings.
    pub fn texts(&self, plans: &BTreeMap<String, CatchUp>) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut texts = BTreeMap::new();
        let mut manifest = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::corrupt("a manifest that cannot be written").because(error))?;
        manifest.push(b'\n');
        texts.insert(MANIFEST.to_owned(), manifest);
        texts.insert(DISPATCHER.to_owned(), self.dispatcher()?.into_bytes());
        let places = self.places();
        for (name, plan) in plans {
            let mut fact = serde_json::to_vec_pretty(plan)
                .map_err(|error| Error::corrupt("a plan that cannot be written").because(error))?;
            fact.push(b'\n');
            texts.insert(format!("plans/{name}.json"), fact);
            texts.insert(format!("plans/{name}.txt"), plan.page().into_bytes());
            texts.insert(
                format!("plans/{name}.sh"),
                plan.script_in(&places)?.into_bytes(),
            );
            texts.insert(
                format!("plans/{name}.cloud-init.yaml"),
                plan.cloud_init(name)?.into_bytes(),
            );
            texts.insert(
                format!("plans/{name}.ansible.yaml"),
                plan.ansible_in(name, &places)?.into_bytes(),
            );
        }
        let mut sums = String::new();
        let text_sums = texts.iter().map(|(path, bytes)| (path, Digest::of(bytes)));
        let all: BTreeMap<&String, Digest> = text_sums
            .chain(self.packages.iter().map(|(path, file)| (path, file.digest)))
            .collect();
        for (path, digest) in all {
            writeln!(sums, "{}  {path}", digest.hex())
                .map_err(|error| Error::corrupt("digests that cannot be written").because(error))?;
        }
        texts.insert(SUMS.to_owned(), sums.into_bytes());
        Ok(texts)
    }

    /// Where package files stand below `packages` that do not stand there under their own names.
    fn places(&self) -> BTreeMap<Digest, String> {
        self.packages
            .iter()
            .filter_map(|(path, file)| {
                let below = path.strip_prefix("packages/")?;
                below.contains('/').then(|| (file.digest, below.to_owned()))
            })
            .collect()
    }

    fn dispatcher(&self) -> Result<String> {
        let mut out = String::from("#!/bin/sh\nlist_plans() {\n  cat <<'END-OF-LIST'\n");
        for plan in &self.plans {
            let id = plan.machine_id.as_deref().unwrap_or("-");
            writeln!(out, "{id} {}", plan.name)
                .map_err(|error| Error::corrupt("a script cannot be written").because(error))?;
        }
        out.push_str("END-OF-LIST\n}\n");
        out.push_str(DISPATCH);
        Ok(out)
    }
}

/// A name of a plan: parts that a script and a file system carry as they are.
fn check_name(name: &str) -> Result<()> {
    let parts: Vec<&str> = name.split('/').collect();
    for part in &parts {
        check_word(part)?;
        if matches!(*part, "." | "..") || part.starts_with('.') {
            return Err(Error::corrupt(format!("a plan cannot be called {name:?}")));
        }
    }
    Ok(())
}

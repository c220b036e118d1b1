//! CVE records (CVE JSON 5) with CISA's decision points, as its Vulnrichment publishes them: one document for each CVE, with a
//! container of CISA's whose metrics have `{"other": {"type": "ssvc", "content": {"options": [...]}}}`.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Beginning, Document, is_cve, json};
use crate::catalogue::Builder;
use crate::statement::Exploitation;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    cve_metadata: Metadata,
    #[serde(default)]
    containers: Containers,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    cve_id: String,
}

#[derive(Default, Deserialize)]
struct Containers {
    #[serde(default)]
    adp: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    provider_metadata: Provider,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    #[serde(default)]
    date_updated: Option<String>,
}

#[derive(Deserialize)]
struct Metric {
    #[serde(default)]
    other: Option<Other>,
}

#[derive(Deserialize)]
struct Other {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: serde_json::Value,
}

#[derive(Deserialize)]
struct Decision {
    #[serde(default)]
    options: Vec<BTreeMap<String, String>>,
}

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    beginning
        .json
        .as_ref()
        .is_some_and(|head| head.value("dataType") == "CVE_RECORD" || head.has("cveMetadata"))
}

fn option<T: Copy>(options: &Decision, name: &str, values: &[(&str, T)]) -> Result<Option<T>> {
    let found = options
        .options
        .iter()
        .flat_map(|option| option.iter())
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    let Some((_, value)) = found else {
        return Ok(None);
    };
    let known = values
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(value));
    known
        .map(|(_, value)| Some(*value))
        .ok_or_else(|| Error::corrupt(format!("the decision point {name} is {value:?}")))
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let record: Record = json::document(document.input)?;
    let cve = &record.cve_metadata.cve_id;
    if !is_cve(cve) {
        return Err(Error::corrupt(format!(
            "the key cveMetadata.cveId: {cve:?} is no CVE"
        )));
    }
    out.entry();
    for container in &record.containers.adp {
        for metric in &container.metrics {
            let Some(other) = metric.other.as_ref().filter(|one| one.kind == "ssvc") else {
                continue;
            };
            let decision = Decision::deserialize(&other.content)
                .map_err(|error| Error::corrupt("the key content of ssvc").because(error))?;
            let exploitation = [
                ("none", Exploitation::None),
                ("poc", Exploitation::Poc),
                ("active", Exploitation::Active),
            ];
            let exploitation = option(&decision, "Exploitation", &exploitation)?;
            let automatable = option(&decision, "Automatable", &[("no", false), ("yes", true)])?;
            let impact = [("partial", false), ("total", true)];
            let impact = option(&decision, "Technical Impact", &impact)?;
            out.decision(cve, exploitation, automatable, impact)?;
            let updated = container.provider_metadata.date_updated.as_deref();
            if let Some(date) = updated.and_then(|date| date.parse::<Timestamp>().ok()) {
                out.dated(date);
            }
        }
    }
    Ok(())
}

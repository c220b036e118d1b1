//! SPDX 2.3 (ISO/IEC 5962 and its successor), JSON.

use dormouse_block::{Error, Result};
use dormouse_packages::{Inventory, Package};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Bill, is_application, machine, system, uuid};

/// What SPDX has for whatever is not said.
const NOT_SAID: &str = "NOASSERTION";

/// A package of SPDX: whatever has a name and a version.
fn package(id: &str, name: &str, version: &str, purpose: &str) -> Map<String, Value> {
    let mut package = Map::new();
    package.insert("SPDXID".into(), id.into());
    package.insert("name".into(), name.into());
    if !version.is_empty() {
        package.insert("versionInfo".into(), version.into());
    }
    package.insert("downloadLocation".into(), NOT_SAID.into());
    package.insert("filesAnalyzed".into(), false.into());
    package.insert("primaryPackagePurpose".into(), purpose.into());
    package
}

fn software(software: &Package, id: &str) -> Value {
    let purpose = if is_application(software) {
        "APPLICATION"
    } else {
        "LIBRARY"
    };
    let mut package = package(id, &software.name, &software.version, purpose);
    if let Some(vendor) = software
        .vendor
        .as_deref()
        .filter(|vendor| !vendor.trim().is_empty())
    {
        let vendor = vendor.replace(['\r', '\n'], " ");
        package.insert(
            "supplier".into(),
            format!("Organization: {}", vendor.trim()).into(),
        );
    }
    let mut said = vec![format!("{} {}", software.family, software.state)];
    if software.source_name != software.name {
        said.push(format!("source {}", software.source_name));
    }
    if let Some(location) = &software.location {
        said.push(format!("found in {location}"));
    }
    if let Some(owner) = &software.owned_by {
        said.push(format!("a file of the system's package {owner}"));
    }
    package.insert("comment".into(), said.join("; ").into());
    package.insert(
        "externalRefs".into(),
        json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": software.purl,
        }]),
    );
    package.into()
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

/// What is made of all machines.
#[derive(Default)]
struct Elements {
    packages: Vec<Value>,
    relationships: Vec<Value>,
}

impl Elements {
    fn add(
        &mut self,
        bill: &Bill<'_>,
        inventory: &Inventory,
        index: usize,
        note: impl Fn(String) -> Value,
    ) {
        let id = format!("SPDXRef-Machine-{index}");
        let point = inventory.at.point.as_deref().unwrap_or("active");
        let mut device = package(&id, machine(inventory), point, "DEVICE");
        let mut notes: Vec<Value> = bill.omissions(inventory).into_iter().map(&note).collect();
        let coverage = if bill.is_complete(inventory) {
            "coverage: complete"
        } else {
            "coverage: incomplete"
        };
        notes.insert(0, note(coverage.into()));
        device.insert("annotations".into(), notes.into());
        self.packages.push(device.into());
        self.relationships
            .push(relationship("SPDXRef-DOCUMENT", "DESCRIBES", &id));
        if let Some((name, version)) = system(inventory) {
            let system = format!("{id}-System");
            self.packages
                .push(package(&system, name, version, "OPERATING-SYSTEM").into());
            self.relationships
                .push(relationship(&id, "CONTAINS", &system));
        }
        for (number, present) in inventory.present().enumerate() {
            let package = format!("{id}-Package-{number}");
            self.packages.push(software(present, &package));
            self.relationships
                .push(relationship(&id, "CONTAINS", &package));
        }
    }
}

pub(super) fn render(bill: &Bill<'_>) -> Result<Vec<u8>> {
    let (tool, version) = bill.tool;
    // SPDX wants whole seconds, and a time where we were given none.
    let seconds = bill.as_of.map_or(0, Timestamp::as_second);
    let created = Timestamp::from_second(seconds)
        .map_err(|error| Error::corrupt("an instant that SPDX cannot say").because(error))?
        .to_string();
    let creator = format!("Tool: {tool}-{version}");
    let note = |comment: String| {
        json!({
            "annotationDate": created,
            "annotationType": "OTHER",
            "annotator": creator,
            "comment": comment,
        })
    };
    let mut elements = Elements::default();
    for (index, inventory) in bill.inventories.iter().enumerate() {
        elements.add(bill, inventory, index, note);
    }
    let notes: Vec<Value> = bill
        .gaps
        .iter()
        .map(|gap| note(format!("not read: {gap}")))
        .collect();
    let mut creation = json!({"created": created, "creators": [creator]});
    if let (None, Some(creation)) = (bill.as_of, creation.as_object_mut()) {
        creation.insert(
            "comment".into(),
            "No instant was given: the time says nothing.".into(),
        );
    }
    let name = match bill.inventories {
        [one] => machine(one).to_owned(),
        _ => format!("{} restore points", bill.inventories.len()),
    };
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "creationInfo": creation,
        "packages": elements.packages,
        "relationships": elements.relationships,
    });
    if let (false, Some(document)) = (notes.is_empty(), document.as_object_mut()) {
        document.insert("annotations".into(), notes.into());
    }
    let broken = |error| Error::corrupt("cannot write the bill of materials").because(error);
    let digest = uuid(&serde_json::to_vec(&document).map_err(broken)?);
    if let Some(document) = document.as_object_mut() {
        document.insert(
            "documentNamespace".into(),
            format!("urn:uuid:{digest}").into(),
        );
    }
    let mut out = serde_json::to_vec_pretty(&document).map_err(broken)?;
    out.push(b'\n');
    Ok(out)
}

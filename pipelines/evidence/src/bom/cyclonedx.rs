//! `CycloneDX` 1.6 (ECMA-424), JSON.

use dormouse_block::{Error, Result};
use dormouse_packages::{Inventory, Package, State};
use serde_json::{Map, Value, json};

use super::{Bill, is_application, machine, system, uuid};

/// A property in our own name space.
fn property(name: &str, value: impl Into<String>) -> Value {
    json!({"name": format!("dormouse:{name}"), "value": value.into()})
}

fn component(package: &Package, reference: String) -> Value {
    let mut component = Map::new();
    let kind = if is_application(package) {
        "application"
    } else {
        "library"
    };
    component.insert("type".into(), kind.into());
    component.insert("bom-ref".into(), reference.into());
    if let Some(vendor) = &package.vendor {
        component.insert("publisher".into(), vendor.as_str().into());
    }
    component.insert("name".into(), package.name.as_str().into());
    component.insert("version".into(), package.version.as_str().into());
    component.insert("purl".into(), package.purl.as_str().into());
    let mut properties = vec![property("family", package.family.as_str())];
    if package.source_name != package.name {
        properties.push(property("source-name", package.source_name.as_str()));
    }
    if package.state != State::Installed {
        properties.push(property("state", package.state.as_str()));
    }
    if let Some(location) = &package.location {
        properties.push(property("location", location.to_string()));
    }
    if let Some(owner) = &package.owned_by {
        properties.push(property("owned-by", owner.as_str()));
    }
    component.insert("properties".into(), properties.into());
    component.into()
}

/// A machine at a restore point, with its system and its packages in it.
fn device(bill: &Bill<'_>, inventory: &Inventory, reference: &str) -> Value {
    let mut within = Vec::new();
    if let Some((name, version)) = system(inventory) {
        let mut os = json!({
            "type": "operating-system",
            "bom-ref": format!("{reference}/system"),
            "name": name,
            "version": version,
        });
        let pretty = inventory.os.as_ref().and_then(|os| os.pretty_name.as_ref());
        if let (Some(pretty), Some(os)) = (pretty, os.as_object_mut()) {
            os.insert("description".into(), pretty.as_str().into());
        }
        within.push(os);
    }
    for (index, package) in inventory.present().enumerate() {
        within.push(component(package, format!("{reference}/package-{index}")));
    }
    let omissions = bill.omissions(inventory);
    let mut properties: Vec<Value> = omissions
        .into_iter()
        .map(|omission| property("gap", omission))
        .collect();
    for kernel in &inventory.kernels {
        properties.push(property("kernel", kernel.as_str()));
    }
    json!({
        "type": "device",
        "bom-ref": reference,
        "name": machine(inventory),
        "version": inventory.at.point.as_deref().unwrap_or("active"),
        "components": within,
        "properties": properties,
    })
}

pub(super) fn render(bill: &Bill<'_>) -> Result<Vec<u8>> {
    let mut components = Vec::new();
    let mut compositions = Vec::new();
    for (index, inventory) in bill.inventories.iter().enumerate() {
        let reference = format!("machine-{index}");
        components.push(device(bill, inventory, &reference));
        let aggregate = if bill.is_complete(inventory) {
            "complete"
        } else {
            "incomplete"
        };
        compositions.push(json!({"aggregate": aggregate, "assemblies": [reference]}));
    }
    let (tool, version) = bill.tool;
    let mut metadata = Map::new();
    if let Some(as_of) = bill.as_of {
        metadata.insert("timestamp".into(), as_of.to_string().into());
    }
    metadata.insert(
        "tools".into(),
        json!({"components": [{"type": "application", "name": tool, "version": version}]}),
    );
    let gaps: Vec<Value> = bill
        .gaps
        .iter()
        .map(|gap| property("gap", format!("not read: {gap}")))
        .collect();
    if !gaps.is_empty() {
        metadata.insert("properties".into(), gaps.into());
        if compositions.is_empty() {
            compositions.push(json!({"aggregate": "incomplete"}));
        }
    }
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "compositions": compositions,
    });
    let broken = |error| Error::corrupt("cannot write the bill of materials").because(error);
    let digest = uuid(&serde_json::to_vec(&document).map_err(broken)?);
    if let Some(document) = document.as_object_mut() {
        document.insert("serialNumber".into(), format!("urn:uuid:{digest}").into());
    }
    let mut out = serde_json::to_vec_pretty(&document).map_err(broken)?;
    out.push(b'\n');
    Ok(out)
}

//! Bills of materials: the software of restore points in the forms that other tools read.
//!
//! The same inventories give the same bytes: serial numbers are made of the document's own digest, and the time is the
//! caller's. What was not read is said in each form's own words.

mod cyclonedx;
mod spdx;

use dormouse_block::{Digest, Gap, Result};
use dormouse_packages::{Family, Inventory, Package};
use jiff::Timestamp;

/// What a bill is made of.
#[derive(Debug, Clone, Copy)]
pub struct Bill<'a> {
    /// The inventories of restore points, each a machine of its own.
    pub inventories: &'a [&'a Inventory],
    /// What lies outside all of them and was not read.
    pub gaps: &'a [&'a Gap],
    /// The instant that the bill speaks of.
    pub as_of: Option<Timestamp>,
    /// The program that makes it, and its version.
    pub tool: (&'a str, &'a str),
}

/// A form of bills.
pub struct BillFormat {
    /// Its name.
    pub name: &'static str,
    render: fn(&Bill<'_>) -> Result<Vec<u8>>,
}

impl BillFormat {
    /// The bill in this form.
    ///
    /// # Errors
    /// Only when it cannot be written in this form at all.
    pub fn render(&self, bill: &Bill<'_>) -> Result<Vec<u8>> {
        (self.render)(bill)
    }
}

/// The forms in which a bill can be written: `CycloneDX` 1.6 and SPDX 2.3, both JSON.
pub static BILL_FORMATS: &[BillFormat] = &[
    BillFormat {
        name: "cyclonedx",
        render: cyclonedx::render,
    },
    BillFormat {
        name: "spdx",
        render: spdx::render,
    },
];

/// The form of this name.
#[must_use]
pub fn bill_format(name: &str) -> Option<&'static BillFormat> {
    BILL_FORMATS.iter().find(|format| format.name == name)
}

impl Bill<'_> {
    /// Whether everything of a machine was looked for and seen.
    fn is_complete(&self, inventory: &Inventory) -> bool {
        inventory.coverage.complete
            && Family::all().all(|family| inventory.coverage.families.contains(&family))
            && !self.gaps.iter().any(|gap| gap.may_hide_packages)
    }

    /// What was not read or not looked for of a machine, one sentence each.
    fn omissions(&self, inventory: &Inventory) -> Vec<String> {
        let left_out: Vec<&str> = Family::all()
            .filter(|family| !inventory.coverage.families.contains(family))
            .map(Family::as_str)
            .collect();
        let left_out = (!left_out.is_empty())
            .then(|| format!("not looked for: packages of {}", left_out.join(", ")));
        let gaps = inventory.gaps.iter().chain(self.gaps.iter().copied());
        left_out
            .into_iter()
            .chain(gaps.map(|gap| format!("not read: {gap}")))
            .collect()
    }
}

/// A machine's name: that of its image, or a word for none.
fn machine(inventory: &Inventory) -> &str {
    inventory.at.machine.as_deref().unwrap_or("machine")
}

/// Whether a package is an application, and not a part of something.
fn is_application(package: &Package) -> bool {
    matches!(
        package.family,
        Family::WindowsApplication | Family::Snap | Family::Flatpak
    )
}

/// The name and version of a machine's operating system.
fn system(inventory: &Inventory) -> Option<(&str, &str)> {
    let os = inventory.os.as_ref()?;
    let version = os.version_id.as_deref().or(os.version_codename.as_deref());
    Some((&os.id, version.unwrap_or_default()))
}

/// A UUID made of the bytes' digest (RFC 9562, version 8).
fn uuid(bytes: &[u8]) -> String {
    let hex = Digest::of(bytes).to_string();
    let hex: Vec<char> = hex.trim_start_matches("sha256:").chars().collect();
    let part = |from: usize, to: usize| {
        hex.get(from..to)
            .unwrap_or_default()
            .iter()
            .collect::<String>()
    };
    format!(
        "{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

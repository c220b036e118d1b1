//! A catch-up as a POSIX script for the guest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dormouse_block::{Digest, Error, Result};

use super::{CatchUp, CatchUpStep};
use crate::fix::{FIX_FUNCTIONS, fix_script};

/// The script's fixed part.
const SCRIPT: &str = include_str!("catch-up.sh");

impl CatchUp {
    /// The script for the guest.
    ///
    /// # Errors
    /// `Corrupt` for names that a script could not carry, as a fact from outside may hold.
    pub fn script(&self) -> Result<String> {
        self.script_in(&BTreeMap::new())
    }

    /// As [`CatchUp::script`], for a bundle in which some package files stand elsewhere than under their own names.
    pub(super) fn script_in(&self, places: &BTreeMap<Digest, String>) -> Result<String> {
        let mut packages = String::new();
        let mut upgrades = String::new();
        let mut services = String::new();
        let mut reasons = String::new();
        let mut fixes = String::new();
        let mut isolate = false;
        for step in &self.steps {
            match step {
                CatchUpStep::Install {
                    package,
                    from,
                    to,
                    file,
                    payload,
                    size,
                } => {
                    for word in [package, to, file].into_iter().chain(from.as_ref()) {
                        check_word(word)?;
                    }
                    let place = places.get(payload).unwrap_or(file);
                    line(
                        &mut packages,
                        &format!("{} {size} {place} {package} {to}", payload.hex()),
                    )?;
                    if let Some(from) = from {
                        line(&mut upgrades, &format!("{package} {from} {to}"))?;
                    }
                }
                CatchUpStep::Fix { fix } => {
                    let fragment = fix_script(fix)?;
                    line(&mut fixes, &format!("{{\n{fragment}}} || fixes_failed=yes"))?;
                }
                CatchUpStep::RestartServices { units } => {
                    for unit in units {
                        check_word(unit)?;
                        line(&mut services, unit)?;
                    }
                }
                CatchUpStep::Reboot { because } => {
                    for reason in because {
                        let plain: String = reason.chars().filter(|c| !c.is_control()).collect();
                        line(&mut reasons, &format!("- {plain}"))?;
                    }
                }
                CatchUpStep::IsolateNetwork => isolate = true,
                CatchUpStep::ForensicTriage { .. }
                | CatchUpStep::PreserveMemory { .. }
                | CatchUpStep::RestoreNetwork => {}
            }
        }
        let mut out = String::from("#!/bin/sh\n");
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let head = [
            ("plan", self.digest()?.to_string()),
            ("isolate", word(isolate).to_owned()),
            ("reboot", word(!reasons.is_empty()).to_owned()),
        ];
        for (name, value) in head {
            line(&mut out, &format!("{name}={value}"))?;
        }
        for (name, text) in [
            ("list_packages", &packages),
            ("list_upgrades", &upgrades),
            ("list_services", &services),
            ("list_reasons", &reasons),
        ] {
            line(
                &mut out,
                &format!("{name}() {{\n  cat <<'END-OF-LIST'\n{text}END-OF-LIST\n}}"),
            )?;
        }
        out.push_str("# shellcheck disable=SC2016 # the texts of fixes are as they are\n");
        out.push_str("make_fixes() {\n  fixes_failed=no\n");
        if fixes.is_empty() {
            out.push_str("}\n");
        } else {
            out.push_str("fix_root=$root\n");
            out.push_str(&fixes);
            out.push_str("}\n");
            out.push_str(FIX_FUNCTIONS);
        }
        out.push_str(SCRIPT);
        Ok(out)
    }
}

fn line(out: &mut String, text: &str) -> Result<()> {
    writeln!(out, "{text}")
        .map_err(|error| Error::corrupt("a script cannot be written").because(error))
}

/// A word that a shell list carries as it is.
pub(super) fn check_word(word: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._:~@%".contains(&byte);
    if !word.is_empty() && !word.starts_with('-') && word.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "a word that a script cannot carry: {word:?}"
    )))
}

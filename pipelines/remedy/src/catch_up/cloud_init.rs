//! A catch-up as user data of cloud-init.

use std::fmt::Write as _;

use dormouse_block::{Error, Result};

use super::bundle::BUNDLE_LABEL;
use super::script::check_word;
use super::{CatchUp, CatchUpStep};

impl CatchUp {
    /// User data by which cloud-init, on the machine's next start as a new instance, carries out the plan called `name`
    /// of the bundle attached to it: a file system with the label `DORMOUSE`. What comes of it stands where the script
    /// leaves it, `/var/lib/dormouse/catch-up/result.json`.
    ///
    /// # Errors
    /// `Corrupt` for a name that a script could not carry.
    pub fn cloud_init(&self, name: &str) -> Result<String> {
        for part in name.split('/') {
            check_word(part)?;
        }
        let isolate = self
            .steps
            .iter()
            .any(|step| matches!(step, CatchUpStep::IsolateNetwork));
        let mut out = String::from("#cloud-config\n");
        let mut push = |line: &str| {
            writeln!(out, "{line}")
                .map_err(|error| Error::corrupt("user data cannot be written").because(error))
        };
        push(&format!(
            "# {} as of {}: {} packages",
            name,
            self.as_of,
            self.bundle().len()
        ))?;
        if isolate {
            push(
                "# Start the instance with its network cut off: cloud-init itself cannot do that early enough.",
            )?;
        }
        push("# Packages come from the bundle alone.")?;
        push("package_update: false")?;
        push("package_upgrade: false")?;
        push("runcmd:")?;
        for words in [
            vec!["mkdir", "-p", "/run/dormouse/bundle"],
            vec![
                "mount",
                "-o",
                "ro",
                &format!("LABEL={BUNDLE_LABEL}"),
                "/run/dormouse/bundle",
            ],
            vec!["sh", "/run/dormouse/bundle/catch-up.sh", name],
            vec!["umount", "/run/dormouse/bundle"],
        ] {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            push(&format!("  - [{}]", words.join(", ")))?;
        }
        if !self.reboot().is_empty() {
            push("power_state:")?;
            push("  mode: reboot")?;
            push("  message: \"started anew after its catch-up\"")?;
            // Not where the script did not come to its end.
            push("  condition: \"test -e /var/lib/dormouse/catch-up/reboot-needed\"")?;
        }
        Ok(out)
    }
}

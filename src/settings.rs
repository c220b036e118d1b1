//! Settings: the flag, then `DORMOUSE_*`, then `dormouse.toml` here, then the user's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use dormouse_block::Meter;
use dormouse_disk::{FormatName, LibraryGate};
use dormouse_engine::{Keys, MachineOptions, UNIT_ROOM, UnitCache};
use jiff::Timestamp;
use serde::Deserialize;

use crate::cli::{Color, FailOn, Format, Global};
use crate::exit::Remap;
use crate::progress::Manner;

/// What a `dormouse.toml` may hold: the flags that mean the same everywhere. Unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    format: Option<Format>,
    quiet: Option<bool>,
    no_progress: Option<bool>,
    color: Option<Color>,
    image_format: Option<String>,
    allow_backing: Option<Vec<PathBuf>>,
    luks_key: Option<Vec<PathBuf>>,
    baseline: Option<String>,
    repo: Option<Vec<PathBuf>>,
    keyring: Option<PathBuf>,
    only: Option<Vec<dormouse_policy::Scope>>,
    feed: Option<Vec<PathBuf>>,
    estate: Option<PathBuf>,
    as_of: Option<Timestamp>,
    fail_on: Option<FailOn>,
    state: Option<PathBuf>,
    jobs: Option<usize>,
    key: Option<PathBuf>,
    exit_code: Option<Vec<String>>,
}

/// Everything a command may want to know beside its own arguments.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The merged flags.
    pub(crate) global: Global,
    /// Set when the user asks to stop.
    pub(crate) stop: Arc<AtomicBool>,
    /// Keys of encrypted images and volumes.
    pub(crate) keys: Keys,
    /// Decoded units of compressed images, where those opened one after the other share them.
    units: Option<UnitCache>,
}

impl Settings {
    /// Merges the flags with the configuration files.
    ///
    /// # Errors
    /// A configuration file that cannot be read or has a key that is not known.
    pub(crate) fn load(mut global: Global, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let user = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
            .map(|folder| folder.join("dormouse/dormouse.toml"));
        for path in [Some(PathBuf::from("dormouse.toml")), user]
            .into_iter()
            .flatten()
        {
            if path.is_file() {
                merge(&mut global, read(&path)?)
                    .with_context(|| format!("in {}", path.display()))?;
            }
        }
        let keys = read_keys(&global.luks_key)?;
        Ok(Self {
            global,
            stop,
            keys,
            units: None,
        })
    }

    /// The same for a command that patches: what it opens again is decoded once.
    #[must_use]
    pub(crate) fn for_patching(&self) -> Self {
        Self {
            units: Some(UnitCache::with_room(UNIT_ROOM)),
            ..self.clone()
        }
    }

    /// Tables or JSON: as asked, else a table on a terminal.
    #[must_use]
    pub(crate) fn format(&self) -> Format {
        use std::io::IsTerminal;
        self.global.format.unwrap_or_else(|| {
            if self.global.output.is_none() && std::io::stdout().is_terminal() {
                Format::Table
            } else {
                Format::Json
            }
        })
    }

    /// Whether tables are coloured.
    #[must_use]
    pub(crate) fn colored(&self) -> bool {
        use std::io::IsTerminal;
        let set = |name: &str| {
            std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
        };
        match self.global.color.unwrap_or(Color::Auto) {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                !set("NO_COLOR") && (set("CLICOLOR_FORCE") || std::io::stdout().is_terminal())
            }
        }
    }

    /// How progress is shown.
    #[must_use]
    pub(crate) fn manner(&self) -> Manner {
        Manner {
            quiet: self.global.quiet,
            no_progress: self.global.no_progress,
        }
    }

    /// The instant to judge at: as asked, else now.
    #[must_use]
    pub(crate) fn as_of(&self) -> Timestamp {
        self.global.as_of.unwrap_or_else(now)
    }

    /// The state folder.
    ///
    /// # Errors
    /// When neither a flag nor the environment names one.
    pub(crate) fn state(&self) -> anyhow::Result<PathBuf> {
        if let Some(state) = &self.global.state {
            return Ok(state.clone());
        }
        if let Some(state) = std::env::var_os("XDG_STATE_HOME") {
            return Ok(PathBuf::from(state).join("dormouse"));
        }
        match std::env::var_os("HOME") {
            Some(home) => Ok(PathBuf::from(home).join(".local/state/dormouse")),
            None => bail!("there is no HOME to keep the state in; give --state DIR"),
        }
    }

    /// How to open an image: its own folder and those allowed may hold its backing files.
    ///
    /// # Errors
    /// A format that is not known, or a folder that cannot be used.
    pub(crate) fn machine_options(&self, image: &Path) -> anyhow::Result<MachineOptions> {
        self.library_options(match image.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        })
    }

    /// How to open a machine of the folder `own`: that and the folders allowed may hold its files.
    ///
    /// # Errors
    /// As [`Settings::machine_options`].
    pub(crate) fn library_options(&self, own: &Path) -> anyhow::Result<MachineOptions> {
        let format = self
            .global
            .image_format
            .as_deref()
            .map(FormatName::parse)
            .transpose()?;
        let allowed =
            std::iter::once(own).chain(self.global.allow_backing.iter().map(PathBuf::as_path));
        Ok(MachineOptions {
            format,
            gate: Arc::new(LibraryGate::new(allowed)?),
            meter: Meter::new(u64::MAX, self.stop.clone()),
            keys: self.keys.clone(),
            units: self.units.clone().unwrap_or_default(),
        })
    }
}

/// The host's clock, truncated to seconds: the only place that asks it.
#[must_use]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Reads key files, of which none is larger than cryptsetup allows.
fn read_keys(files: &[PathBuf]) -> anyhow::Result<Keys> {
    use std::io::Read as _;
    const MOST: u64 = 8 << 20;
    let read = |path: &PathBuf| -> anyhow::Result<Vec<u8>> {
        let file = std::fs::File::open(path)
            .with_context(|| format!("cannot open the key file {}", path.display()))?;
        let mut key = Vec::new();
        file.take(MOST.saturating_add(1))
            .read_to_end(&mut key)
            .with_context(|| format!("cannot read the key file {}", path.display()))?;
        Ok(key)
    };
    let keys = files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Keys::new(keys)?)
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn merge(global: &mut Global, file: File) -> anyhow::Result<()> {
    fn fill<T>(slot: &mut Option<T>, value: Option<T>) {
        if slot.is_none() {
            *slot = value;
        }
    }
    fn fill_list<T>(slot: &mut Vec<T>, value: Option<Vec<T>>) {
        if slot.is_empty() {
            *slot = value.unwrap_or_default();
        }
    }
    fill(&mut global.format, file.format);
    fill(&mut global.color, file.color);
    fill(&mut global.image_format, file.image_format);
    fill(&mut global.baseline, file.baseline);
    fill(&mut global.keyring, file.keyring);
    fill(&mut global.estate, file.estate);
    fill(&mut global.as_of, file.as_of);
    fill(&mut global.fail_on, file.fail_on);
    fill(&mut global.state, file.state);
    fill(&mut global.jobs, file.jobs);
    fill(&mut global.key, file.key);
    fill_list(&mut global.allow_backing, file.allow_backing);
    fill_list(&mut global.luks_key, file.luks_key);
    fill_list(&mut global.repo, file.repo);
    fill_list(&mut global.only, file.only);
    fill_list(&mut global.feed, file.feed);
    global.quiet |= file.quiet.unwrap_or_default();
    global.no_progress |= file.no_progress.unwrap_or_default();
    if global.exit_code.is_empty() {
        for remap in file.exit_code.unwrap_or_default() {
            let remap: Remap = remap.parse().map_err(anyhow::Error::msg)?;
            global.exit_code.push(remap);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_outranks_the_file_and_unknown_keys_are_errors() {
        let mut global = Global {
            jobs: Some(2),
            ..Global::default()
        };
        let file: File =
            toml::from_str("jobs = 8\nstate = \"/s\"\nexit-code = [\"findings=9\"]").unwrap();
        merge(&mut global, file).unwrap();
        assert_eq!(global.jobs, Some(2));
        assert_eq!(global.state, Some(PathBuf::from("/s")));
        assert_eq!(global.exit_code.len(), 1);
        assert!(
            toml::from_str::<File>("job = 8")
                .unwrap_err()
                .to_string()
                .contains("job")
        );
    }
}

//! One package as dpkg's database will have it, and its paragraph in `status`.

use dormouse_block::{Error, Result};
use dormouse_packages::dpkg::{
    Alternative, Flag, MultiArch, Record, Relation, RelationField, State, Status, Want,
};
use dormouse_scripts::{ConffileView, PackageView};

use crate::deb::Control;

/// The digest that stands for a conffile not configured yet.
pub(super) const NEW_CONFFILE: &str = "newconffile";

/// What stands where in a paragraph: dpkg writes these in this order, and everything else after them in the order of
/// the package's own control file (dpkg's `fieldinfos`).
const ORDER: &[&str] = &[
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
    "Triggers-Pending",
    "Triggers-Awaited",
];

/// Fields that [`Package`] keeps itself.
const OWN: &[&str] = &[
    "Status",
    "Config-Version",
    "Conffiles",
    "Triggers-Pending",
    "Triggers-Awaited",
];

/// Fields of a package file or index that dpkg does not keep in `status`.
const DROPPED: &[&str] = &["Filename", "Size", "MD5sum", "MSDOS-Filename"];

/// A conffile line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conffile {
    /// The path as the list files spell it.
    pub(super) path: Vec<u8>,
    /// The digest of the version that the administrator last got, or [`NEW_CONFFILE`].
    pub(super) hash: String,
    pub(super) obsolete: bool,
    pub(super) remove_on_upgrade: bool,
}

/// One package of one architecture.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) same: bool,
    pub(super) status: Status,
    /// Empty where nothing of it is there.
    pub(super) version: String,
    /// The version last configured; empty where there is none.
    pub(super) config_version: String,
    pub(super) conffiles: Vec<Conffile>,
    /// The newest first, as dpkg keeps them in memory.
    pub(super) triggers_pending: Vec<String>,
    /// Indices of the packages that it awaits.
    pub(super) awaits: Vec<usize>,
    /// Whether the log is to be told of the status.
    pub(super) log_due: bool,
    /// What `Provides` names.
    pub(super) provides: Vec<Alternative>,
    /// What `Conflicts` names.
    pub(super) conflicts: Vec<Alternative>,
    /// All other fields: canonical name and value.
    fields: Vec<(String, Vec<u8>)>,
    /// The paragraph as it stood, while nothing of it has changed.
    raw: Option<Vec<u8>>,
}

impl Package {
    /// A record of the database. What it awaits is filled in by whoever knows all packages.
    pub(super) fn of_record(record: &Record) -> Result<Self> {
        let paragraph = record.paragraph();
        let mut fields = Vec::new();
        let mut conffiles = Vec::new();
        for field in paragraph.fields() {
            let field = field?;
            if field.is("Conffiles") {
                conffiles = conffiles_of(field.value)?;
            }
            if !OWN.iter().any(|name| field.is(name)) {
                fields.push((field.name.to_owned(), field.value.to_vec()));
            }
        }
        let version = record
            .version
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let state = record.status.state;
        // dpkg takes what is configured as the version last configured.
        let config_version = if matches!(
            state,
            State::Installed | State::TriggersPending | State::TriggersAwaited
        ) {
            version.clone()
        } else {
            record
                .config_version
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let mut package = Self {
            name: record.name.clone(),
            architecture: record.architecture.clone(),
            same: record.multi_arch == MultiArch::Same,
            status: record.status,
            version,
            config_version,
            conffiles,
            // Each reading turns dpkg's list around.
            triggers_pending: record.triggers_pending.iter().rev().cloned().collect(),
            awaits: Vec::new(),
            log_due: false,
            provides: Vec::new(),
            conflicts: Vec::new(),
            fields,
            raw: (record.triggers_pending.len() < 2).then(|| paragraph.raw().to_vec()),
        };
        package.read_relations();
        Ok(package)
    }

    /// Reads the relations that are asked for with every package.
    fn read_relations(&mut self) {
        let all = |field| -> Vec<Alternative> {
            self.relations(field)
                .iter()
                .flat_map(|relation| relation.alternatives().iter().cloned())
                .collect()
        };
        let (provides, conflicts) = (all(RelationField::Provides), all(RelationField::Conflicts));
        self.provides = provides;
        self.conflicts = conflicts;
    }

    /// A package of which nothing is there yet.
    pub(super) fn absent(control: &Control) -> Self {
        Self {
            name: control.package().to_owned(),
            architecture: control.architecture().to_owned(),
            same: control.multi_arch_same(),
            status: Status {
                want: Want::Unknown,
                flag: Flag::Ok,
                state: State::NotInstalled,
            },
            version: String::new(),
            config_version: String::new(),
            conffiles: Vec::new(),
            triggers_pending: Vec::new(),
            awaits: Vec::new(),
            log_due: false,
            provides: Vec::new(),
            conflicts: Vec::new(),
            fields: Vec::new(),
            raw: None,
        }
    }

    /// The name of its files in `info/`, without the dot and the kind.
    pub(super) fn info_name(&self) -> String {
        info_name(&self.name, &self.architecture, self.same)
    }

    /// `name:architecture`, as the log has it.
    pub(super) fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.architecture)
    }

    /// Sets how far it is.
    pub(super) fn set_state(&mut self, state: State) {
        if self.status.state != state {
            self.status.state = state;
            self.log_due = true;
        }
    }

    /// Notes that the paragraph must be written anew.
    pub(super) fn touch(&mut self) {
        self.raw = None;
    }

    /// Whether the paragraph is to be written anew.
    pub(super) fn is_touched(&self) -> bool {
        self.raw.is_none()
    }

    /// A field that is not one of the package's own.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The relations of one field; what does not read is none.
    pub(super) fn relations(&self, field: RelationField) -> Vec<Relation> {
        self.field(field.as_str())
            .and_then(|text| Relation::parse_all(text).ok())
            .unwrap_or_default()
    }

    /// Takes over what a package file says of itself, as dpkg does when it has unpacked it.
    pub(super) fn take_control(&mut self, control: &Control) -> Result<()> {
        let mut fields = Vec::new();
        for (name, value) in control.fields() {
            if OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
                || DROPPED.iter().any(|own| own.eq_ignore_ascii_case(name))
            {
                continue;
            }
            let known = ORDER.iter().find(|known| known.eq_ignore_ascii_case(name));
            let value = match RelationField::from_name(name) {
                Some(_) => relations_text(value)?,
                None if name.eq_ignore_ascii_case("Version") => canonical_version(value),
                None if name.eq_ignore_ascii_case("Priority") => priority(value),
                None if is_default(name, value) => continue,
                None => value.to_owned(),
            };
            if value.is_empty() && known.is_some() {
                continue;
            }
            let name = known.map_or_else(|| name.to_owned(), |known| (*known).to_owned());
            fields.push((name, value.into_bytes()));
        }
        // The classification of a package that says nothing of it stays as it was.
        for kept in ["Priority", "Section"] {
            if !fields.iter().any(|(name, _)| name == kept)
                && let Some(value) = self.field(kept)
            {
                fields.push((kept.to_owned(), value.as_bytes().to_vec()));
            }
        }
        self.fields = fields;
        self.version = canonical_version(control.version());
        control.architecture().clone_into(&mut self.architecture);
        self.same = control.multi_arch_same();
        self.read_relations();
        self.touch();
        Ok(())
    }

    /// The paragraph with its newline at the end; `name_of` gives a package's name as `Triggers-Awaited` has it.
    pub(super) fn paragraph(&self, name_of: impl Fn(usize) -> String) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            let mut out = raw.clone();
            if !out.ends_with(b"\n") {
                out.push(b'\n');
            }
            return out;
        }
        let mut out = Vec::new();
        for &name in ORDER {
            match name {
                "Status" => line(&mut out, name, self.status.to_string().as_bytes()),
                "Config-Version" => {
                    if self.shows_config_version() {
                        line(&mut out, name, self.config_version.as_bytes());
                    }
                }
                "Conffiles" => self.conffile_lines(&mut out),
                "Triggers-Pending" => {
                    if !self.triggers_pending.is_empty() {
                        line(&mut out, name, self.triggers_pending.join(" ").as_bytes());
                    }
                }
                "Triggers-Awaited" => {
                    if !self.awaits.is_empty() {
                        let names: Vec<String> =
                            self.awaits.iter().copied().map(&name_of).collect();
                        line(&mut out, name, names.join(" ").as_bytes());
                    }
                }
                _ => {
                    let known = self
                        .fields
                        .iter()
                        .find(|(known, _)| known.eq_ignore_ascii_case(name));
                    match known {
                        Some((_, value)) => line(&mut out, name, value),
                        None if name == "Package" => line(&mut out, name, self.name.as_bytes()),
                        None => {}
                    }
                }
            }
        }
        for (name, value) in &self.fields {
            if !ORDER.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                line(&mut out, name, value);
            }
        }
        out
    }

    fn shows_config_version(&self) -> bool {
        !self.config_version.is_empty()
            && matches!(
                self.status.state,
                State::ConfigFiles | State::HalfInstalled | State::Unpacked | State::HalfConfigured
            )
    }

    fn conffile_lines(&self, out: &mut Vec<u8>) {
        if self.conffiles.is_empty() {
            return;
        }
        out.extend_from_slice(b"Conffiles:\n");
        for conffile in &self.conffiles {
            out.push(b' ');
            out.extend_from_slice(&conffile.path);
            out.push(b' ');
            out.extend_from_slice(conffile.hash.as_bytes());
            if conffile.obsolete {
                out.extend_from_slice(b" obsolete");
            }
            if conffile.remove_on_upgrade {
                out.extend_from_slice(b" remove-on-upgrade");
            }
            out.push(b'\n');
        }
    }

    /// What maintainer scripts can ask for.
    pub(super) fn view(&self) -> PackageView {
        PackageView {
            architecture: self.architecture.clone(),
            multi_arch_same: self.same,
            want: self.status.want.to_string(),
            error: self.status.flag.to_string(),
            state: self.status.state.to_string(),
            version: (!self.version.is_empty()).then(|| self.version.clone()),
            config_version: self
                .shows_config_version()
                .then(|| self.config_version.clone()),
            conffiles: self
                .conffiles
                .iter()
                .map(|conffile| ConffileView {
                    path: String::from_utf8_lossy(&conffile.path).into_owned(),
                    md5: conffile.hash.clone(),
                    obsolete: conffile.obsolete,
                    remove_on_upgrade: conffile.remove_on_upgrade,
                })
                .collect(),
            fields: self
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
                .collect(),
        }
    }

    /// What is left of a package that another one replaced altogether: nothing that dpkg would write.
    pub(super) fn disappear(&mut self) {
        self.set_state(State::NotInstalled);
        self.status.want = Want::Unknown;
        self.status.flag = Flag::Ok;
        self.version = String::new();
        self.config_version = String::new();
        self.conffiles = Vec::new();
        self.triggers_pending = Vec::new();
        self.awaits = Vec::new();
        // Priority and Section belong to the name, not to what is installed; dpkg drops the record unless it has more.
        self.fields = Vec::new();
        self.read_relations();
        self.touch();
    }
}

/// The name of a package's files in `info/`, without the dot and the kind.
pub(super) fn info_name(name: &str, architecture: &str, same: bool) -> String {
    if same {
        format!("{name}:{architecture}")
    } else {
        name.to_owned()
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// dpkg leaves out what says nothing.
fn is_default(name: &str, value: &str) -> bool {
    ((name.eq_ignore_ascii_case("Essential") || name.eq_ignore_ascii_case("Protected"))
        && !value.eq_ignore_ascii_case("yes"))
        || (name.eq_ignore_ascii_case("Multi-Arch") && value == "no")
}

fn priority(value: &str) -> String {
    let known = ["required", "important", "standard", "optional", "extra"];
    match known.iter().find(|known| known.eq_ignore_ascii_case(value)) {
        Some(known) => (*known).to_owned(),
        None => value.to_owned(),
    }
}

/// A version as dpkg writes it: without an epoch of zero unless what follows needs one.
pub(super) fn canonical_version(version: &str) -> String {
    let version = version.trim();
    match version.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte == b'0') && !rest.contains(':') => {
            rest.to_owned()
        }
        _ => version.to_owned(),
    }
}

/// A relationship field as dpkg writes it.
fn relations_text(value: &str) -> Result<String> {
    use std::fmt::Write as _;
    let mut out = String::new();
    for relation in Relation::parse_all(value)? {
        if !out.is_empty() {
            out.push_str(", ");
        }
        for (at, alternative) in relation.alternatives().iter().enumerate() {
            if at > 0 {
                out.push_str(" | ");
            }
            let mut bare = alternative.clone();
            let constraint = bare.constraint.take();
            let written = match constraint {
                None => write!(out, "{bare}"),
                Some(constraint) => write!(
                    out,
                    "{bare} ({} {})",
                    constraint.operator.as_str(),
                    canonical_version(&constraint.version.to_string())
                ),
            };
            written
                .map_err(|error| Error::corrupt("a relation cannot be written").because(error))?;
        }
    }
    Ok(out)
}

fn conffiles_of(value: &[u8]) -> Result<Vec<Conffile>> {
    let bad = || Error::corrupt("a bad conffile line in the package database");
    let mut out = Vec::new();
    for line in value.split(|&byte| byte == b'\n') {
        let mut rest = line.trim_ascii();
        if rest.is_empty() {
            continue;
        }
        let mut conffile = Conffile {
            path: Vec::new(),
            hash: String::new(),
            obsolete: false,
            remove_on_upgrade: false,
        };
        while conffile.hash.is_empty() {
            let cut = rest
                .iter()
                .rposition(|&byte| byte == b' ')
                .ok_or_else(bad)?;
            let (before, word) = rest.split_at_checked(cut).ok_or_else(bad)?;
            match word.trim_ascii() {
                b"obsolete" => conffile.obsolete = true,
                b"remove-on-upgrade" => conffile.remove_on_upgrade = true,
                b"" => return Err(bad()),
                hash => {
                    conffile.hash = std::str::from_utf8(hash).map_err(|_| bad())?.to_owned();
                }
            }
            rest = before;
        }
        if !rest.starts_with(b"/") {
            return Err(bad());
        }
        conffile.path = rest.to_vec();
        out.push(conffile);
    }
    Ok(out)
}

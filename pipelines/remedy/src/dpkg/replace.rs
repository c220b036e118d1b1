//! What goes when the new version's files are there: dropped files, other packages' claims, whole packages; and what
//! `info/` holds afterwards.

use std::collections::{BTreeSet, HashMap};

use dormouse_block::Result;
use dormouse_filesystem::{Follow, Time};
use dormouse_overlay::{Attributes, Content, DraftNode, Identity};
use dormouse_packages::dpkg::{RelationField, State};

use super::conffile::hex;
use super::database::{INFO, read};
use super::files::path_of;
use super::package::{NEW_CONFFILE, Package, info_name};
use super::trigger::{self, Directive};
use super::{Name, Session, Work, fixed};

impl Session<'_> {
    /// Removes the files that only the old version had; its conffiles stay and become obsolete.
    pub(super) fn remove_old_files(&mut self, work: &mut Work<'_>) -> Result<()> {
        for name in work.new_conffiles.clone() {
            if work.is(name, |state| state.remove_on_upgrade) {
                self.remove_on_upgrade(work, name)?;
            }
        }
        let own = self.package(work.package).name.clone();
        let old: Vec<Name> = self.files.list(work.package).to_vec();
        let mut identities = None;
        for name in old.into_iter().rev() {
            if work.is(name, super::NameState::stays) {
                continue;
            }
            let bytes = self.files.text(name).to_vec();
            let used = self.diversions.place(&bytes, &own).to_vec();
            let path = path_of(&used)?;
            let leads_to_directory = self
                .draft
                .get(&path, Follow::Links)?
                .is_some_and(|found| found.node == DraftNode::Directory);
            let shared = self
                .files
                .owners(name)
                .iter()
                .any(|owner| *owner != work.package);
            if leads_to_directory && shared {
                continue;
            }
            let Some(found) = self.draft.get(&path, Follow::No)? else {
                continue;
            };
            if found.node == DraftNode::Directory {
                self.activate_path(&used, work.package);
                let empty = self
                    .draft
                    .read_dir(&found.path)?
                    .is_none_or(|names| names.is_empty());
                if empty && !found.path.is_root() {
                    self.draft.remove(&found.path)?;
                }
                continue;
            }
            if identities.is_none() {
                identities = Some(self.identities(work)?);
            }
            let same_as = identities
                .as_ref()
                .and_then(|known| known.get(&found.identity))
                .copied();
            if work.is(name, |state| state.old_conffile) {
                self.leave_old_conffile(work, name, same_as);
                continue;
            }
            if same_as.is_some() {
                continue;
            }
            self.activate_path(&used, work.package);
            self.draft.remove(&found.path)?;
        }
        Ok(())
    }

    /// An old conffile that the new version does not have by that name.
    fn leave_old_conffile(&mut self, work: &mut Work<'_>, name: Name, same_as: Option<Name>) {
        let hash = work
            .names
            .get(&name)
            .and_then(|state| state.old_hash.clone());
        let Some(same) = same_as else {
            work.state(name).obsolete = true;
            work.new_conffiles.push(name);
            work.new_files.push(name);
            return;
        };
        let state = work.state(same);
        if state.new_conffile && state.old_hash.as_deref() == Some(NEW_CONFFILE) {
            state.old_hash = hash;
        }
    }

    /// What the new version's names lead to, to know its files by other names again.
    fn identities(&self, work: &Work<'_>) -> Result<HashMap<Identity, Name>> {
        let mut known = HashMap::new();
        for &name in &work.new_files {
            if work.is(name, |state| state.filtered) {
                continue;
            }
            let path = path_of(self.files.text(name))?;
            if let Some(found) = self.draft.get(&path, Follow::No)?
                && found.node != DraftNode::Directory
            {
                known.entry(found.identity).or_insert(name);
            }
        }
        Ok(known)
    }

    /// Packages all of whose files are now the new package's, and that nobody needs.
    pub(super) fn disappearing(&self, work: &Work<'_>) -> Vec<usize> {
        let mut out: Vec<usize> = Vec::new();
        for other in self.files.listed() {
            let package = self.package(other);
            if other == work.package
                || package.status.state <= State::ConfigFiles
                || (package.name == self.package(work.package).name
                    && package.same
                    && work.deb.control.multi_arch_same())
            {
                continue;
            }
            let list = self.files.list(other);
            let has_files = list.iter().any(|name| self.files.text(*name) != b"/.");
            if !has_files || list.iter().any(|name| self.saves(*name, other, work, &out)) {
                continue;
            }
            if !self.is_needed(other, work) {
                out.push(other);
            }
        }
        out
    }

    /// Whether the file keeps its package from disappearing.
    fn saves(&self, name: Name, package: usize, work: &Work<'_>, gone: &[usize]) -> bool {
        let bytes = self.files.text(name);
        if let Some(Some(by)) = self.diversions.diverted_by(bytes)
            && (by == self.package(package).name || by == self.package(work.package).name)
        {
            return true;
        }
        if work.is(name, |state| state.in_archive) {
            return false;
        }
        !self
            .files
            .owners(name)
            .iter()
            .any(|third| *third != package && *third != work.package && !gone.contains(third))
    }

    /// Whether some package depends on or recommends `other` and nothing else would do.
    fn is_needed(&self, other: usize, work: &Work<'_>) -> bool {
        let gone = self.package(other);
        let mut names: BTreeSet<String> = BTreeSet::from([gone.name.clone()]);
        names.extend(gone.provides.iter().map(|one| one.name.clone()));
        let fields = [
            RelationField::Depends,
            RelationField::PreDepends,
            RelationField::Recommends,
        ];
        self.packages.iter().enumerate().any(|(at, package)| {
            at != other
                && package.status.state.may_have_files()
                && fields.iter().any(|field| {
                    let relations = if at == work.package {
                        work.deb
                            .control
                            .get(field.as_str())
                            .and_then(|text| {
                                dormouse_packages::dpkg::Relation::parse_all(text).ok()
                            })
                            .unwrap_or_default()
                    } else {
                        package.relations(*field)
                    };
                    relations.iter().any(|relation| {
                        relation
                            .alternatives()
                            .iter()
                            .any(|one| names.contains(&one.name))
                            && !self.meets(relation, other)
                            && !new_provides(work, relation)
                    })
                })
        })
    }

    /// Writes the new version's list of files.
    pub(super) fn write_own_list(&mut self, work: &mut Work<'_>) -> Result<()> {
        let control = &work.deb.control;
        let name = info_name(
            control.package(),
            control.architecture(),
            control.multi_arch_same(),
        );
        let mut seen = std::collections::HashSet::new();
        let list: Vec<Name> = work
            .new_files
            .iter()
            .copied()
            .filter(|name| seen.insert(*name))
            .collect();
        let text = self.files.list_text(&list);
        self.files.set_list(work.package, list);
        self.put(&format!("{INFO}/{name}.list"), text)?;
        self.info.entry(name).or_default().insert("list".into());
        Ok(())
    }

    /// The old version's trigger interests go, the new version's come.
    pub(super) fn renew_interests(&mut self, work: &mut Work<'_>, old: &Package) -> Result<()> {
        let old_name = old.info_name();
        if self
            .info
            .get(&old_name)
            .is_some_and(|kinds| kinds.contains("triggers"))
        {
            let bytes = read(self.draft, &format!("{INFO}/{old_name}.triggers"))?;
            for directive in trigger::directives(&bytes)? {
                if let Directive::Interest { trigger, .. } = directive {
                    self.interests.remove(&trigger, &old_name);
                }
            }
        }
        let control = &work.deb.control;
        let name = info_name(
            control.package(),
            control.architecture(),
            control.multi_arch_same(),
        );
        if let Some(member) = work.deb.member("triggers") {
            for directive in trigger::directives(member)? {
                if let Directive::Interest { trigger, awaited } = directive {
                    self.interests.add(&trigger, &name, awaited);
                }
            }
        }
        Ok(())
    }

    /// What the package brings for `info/`: its members, and the digests where it brings none.
    pub(super) fn write_info(&mut self, work: &mut Work<'_>, old: &Package) -> Result<()> {
        let control = &work.deb.control;
        let name = info_name(
            control.package(),
            control.architecture(),
            control.multi_arch_same(),
        );
        let old_name = old.info_name();
        let known = self.info.get(&name).cloned().unwrap_or_default();
        for kind in known {
            let replaced = kind != "control" && work.deb.members.contains_key(&kind);
            if kind != "list" && !replaced {
                self.remove_info(&name, &kind)?;
            }
        }
        for (kind, member) in &work.deb.members {
            if kind == "control" || kind == "list" || kind.contains('.') {
                continue;
            }
            let attributes = Attributes {
                mode: member.mode,
                uid: member.uid,
                gid: member.gid,
                mtime: Time {
                    seconds: member.mtime,
                    nanoseconds: 0,
                },
                xattrs: std::collections::BTreeMap::new(),
            };
            self.draft.put(
                &fixed(&format!("{INFO}/{name}.{kind}"))?,
                DraftNode::File(Content::Bytes(member.bytes.clone())),
                attributes,
            )?;
            self.info
                .entry(name.clone())
                .or_default()
                .insert(kind.clone());
        }
        if old_name != name {
            for kind in self.info.get(&old_name).cloned().unwrap_or_default() {
                self.remove_info(&old_name, &kind)?;
            }
        }
        if !work.deb.members.contains_key("md5sums") {
            let text = self.md5sums(work);
            if !text.is_empty() {
                self.put(&format!("{INFO}/{name}.md5sums"), text)?;
                self.info.entry(name).or_default().insert("md5sums".into());
            }
        }
        Ok(())
    }

    fn remove_info(&mut self, name: &str, kind: &str) -> Result<()> {
        self.remove_if_there(&format!("{INFO}/{name}.{kind}"))?;
        if let Some(kinds) = self.info.get_mut(name) {
            kinds.remove(kind);
        }
        Ok(())
    }

    /// The digests that dpkg computed while it unpacked.
    fn md5sums(&self, work: &Work<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut digests: HashMap<&dormouse_block::GuestPath, [u8; 16]> = HashMap::new();
        for entry in &work.deb.entries {
            let digest = match &entry.kind {
                crate::deb::EntryKind::File { md5: Some(md5), .. } => *md5,
                crate::deb::EntryKind::HardLink(to) => match digests.get(to) {
                    Some(known) => *known,
                    None => continue,
                },
                _ => continue,
            };
            digests.insert(&entry.path, digest);
        }
        for name in &work.new_files {
            let bytes = self.files.text(*name);
            let Ok(path) = path_of(bytes) else { continue };
            if work.is(*name, |state| state.filtered) {
                continue;
            }
            if let Some(digest) = digests.get(&path) {
                out.extend_from_slice(hex(digest).as_bytes());
                out.extend_from_slice(b"  ");
                out.extend_from_slice(bytes.strip_prefix(b"/").unwrap_or(bytes));
                out.push(b'\n');
            }
        }
        out
    }

    /// A package that another one replaced altogether.
    pub(super) fn vanish(&mut self, index: usize) -> Result<()> {
        let name = self.package(index).info_name();
        for kind in self.info.get(&name).cloned().unwrap_or_default() {
            self.remove_info(&name, &kind)?;
        }
        self.change(index).disappear();
        self.note(index);
        self.files.forget(index);
        Ok(())
    }

    /// The names that the new version took over leave other packages' lists.
    pub(super) fn take_from_other_lists(&mut self, work: &mut Work<'_>) -> Result<()> {
        let own = self.package(work.package).name.clone();
        let mut losing = BTreeSet::new();
        for name in work.new_files.clone() {
            if !work.is(name, |state| state.takes_over) {
                continue;
            }
            let diverted = self
                .diversions
                .diverted_by(self.files.text(name))
                .map(|by| by.map(str::to_owned));
            if diverted
                .as_ref()
                .is_some_and(|by| by.as_deref() == Some(&own))
            {
                continue;
            }
            for owner in self.files.owners(name).to_vec() {
                let other = self.package(owner);
                let diverting = diverted
                    .as_ref()
                    .is_some_and(|by| by.as_deref() == Some(&other.name));
                if owner == work.package || other.name == own || diverting {
                    continue;
                }
                if work.is(name, |state| state.new_conffile) {
                    self.mark_obsolete(owner, name);
                }
                losing.insert(owner);
            }
        }
        for owner in losing {
            let list: Vec<Name> = self
                .files
                .list(owner)
                .iter()
                .copied()
                .filter(|name| !work.is(*name, |state| state.takes_over))
                .collect();
            let info = self.package(owner).info_name();
            let text = self.files.list_text(&list);
            self.files.set_list(owner, list);
            self.put(&format!("{INFO}/{info}.list"), text)?;
        }
        Ok(())
    }
}

/// Whether the package being unpacked meets `relation` itself.
fn new_provides(work: &Work<'_>, relation: &dormouse_packages::dpkg::Relation) -> bool {
    let control = &work.deb.control;
    let provides = control
        .get("Provides")
        .and_then(|text| dormouse_packages::dpkg::Relation::parse_all(text).ok())
        .unwrap_or_default();
    relation.alternatives().iter().any(|one| {
        let admits = |version: &str| {
            one.constraint.as_ref().is_none_or(|constraint| {
                dormouse_packages::dpkg::Version::parse(version)
                    .is_ok_and(|version| constraint.admits(&version))
            })
        };
        (one.name == control.package() && admits(control.version()))
            || provides
                .iter()
                .flat_map(dormouse_packages::dpkg::Relation::alternatives)
                .any(|given| {
                    given.name == one.name
                        && match (&one.constraint, &given.constraint) {
                            (None, _) => true,
                            (Some(wanted), Some(given)) => wanted.admits(&given.version),
                            (Some(_), None) => false,
                        }
                })
    })
}

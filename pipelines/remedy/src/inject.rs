//! A plan carried out on a draft.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;

use dormouse_block::{Digest, DigestReader, Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Guest, Time};
use dormouse_overlay::{Content, Difference, Draft, DraftNode, PayloadReader};
use dormouse_packages::dpkg::Database;
use foldhash::{HashMap, HashMapExt as _};
use jiff::Timestamp;

use crate::apt;
use crate::deb::{EntryKind, Unpacked};
use crate::dpkg::{
    Configured, Configuring, Options, ScriptRun, ScriptVerdict, Session, Settled, Triggered,
    Unpacking, fixed,
};
use crate::first_boot::{self, Pending};
use crate::fix::make_all;
use crate::injection::{ExpectedPackage, InjectedPackage, Injection, PathChange, xattr_digests};
use crate::plan::{Decision, FirstBootStep, Plan, PlannedPackage};

/// The offset that asks a [`PayloadReader`] for the package file itself and not for a part of its data archive.
pub const WHOLE_PACKAGE: u64 = u64::MAX;

/// A plan carried out: the guest as it will be, and what was done.
pub struct Injected {
    /// The guest as it will be.
    pub draft: Draft,
    /// What it has that the guest has not, and the other way round.
    pub differences: Arc<BTreeMap<GuestPath, Difference>>,
    /// What was done.
    pub injection: Injection,
}

/// Package files, unpacked.
pub trait UnpackedPackages {
    /// What is in the package file of this digest, which is waited for while it is being unpacked; `None` for one that
    /// is not among them.
    ///
    /// # Errors
    /// `Cancelled` when it could not be unpacked, which whoever unpacks it tells.
    fn unpacked(&self, payload: &Digest) -> Result<Option<Arc<Unpacked>>>;
}

impl UnpackedPackages for BTreeMap<Digest, Arc<Unpacked>> {
    fn unpacked(&self, payload: &Digest) -> Result<Option<Arc<Unpacked>>> {
        Ok(self.get(payload).cloned())
    }
}

/// What an injection needs beside its plan.
pub struct Materials<'a> {
    /// The guest as it is.
    pub guest: Arc<Guest>,
    /// Each planned package file, unpacked. They are asked for in the plan's order.
    pub packages: &'a dyn UnpackedPackages,
    /// Opens the bytes of files in package files, and with [`WHOLE_PACKAGE`] of package files.
    pub payloads: PayloadReader,
    /// The time of every change.
    pub now: Timestamp,
    /// Bounds on each maintainer script.
    pub limits: dormouse_scripts::Limits,
}

/// Carries `plan` out on a draft over the guest.
///
/// Packages are unpacked in the plan's order, then configured, then triggers are processed, then fixes are made. A package with a script
/// before unpacking that cannot be interpreted waits in the guest for the first boot, and so does what needs it; one
/// that dpkg would refuse is left out, and so is what needs it; one whose `postinst` cannot be interpreted is unpacked
/// and left to be configured at the first boot, and so is what depends on it. A fix that cannot be made leaves nothing behind.
///
/// # Errors
/// `Unsupported` for a guest whose package database cannot be written, `Corrupt` where a package file is missing or is
/// not what the plan says, and what reading the guest returns.
pub fn draft_injection(plan: &Plan, materials: &Materials<'_>) -> Result<Injected> {
    plan.check()?;
    let mut behind = asked_to_wait(plan, materials)?;
    loop {
        match attempt(plan, materials, &behind)? {
            Attempt::Done(injected) => return Ok(*injected),
            Attempt::Again(key, decision) => {
                // Each round leaves one more package behind, so this ends.
                if behind.insert(key.clone(), decision).is_some() {
                    return Err(Error::corrupt(format!("{key} is left behind twice")));
                }
            }
        }
    }
}

/// The packages that were asked to wait for the first boot.
fn asked_to_wait(plan: &Plan, materials: &Materials<'_>) -> Result<BTreeMap<String, Decision>> {
    if !plan.at_first_boot {
        return Ok(BTreeMap::new());
    }
    let native = Database::read(&materials.guest)?
        .and_then(|database| database.native_architecture().map(str::to_owned))
        .unwrap_or_default();
    let waits = Decision::Defer {
        why: "it was asked to wait for the first boot".to_owned(),
        script: None,
    };
    let keys = plan.packages.iter().map(|package| package.key(&native));
    Ok(keys.map(|key| (key, waits.clone())).collect())
}

enum Attempt {
    Done(Box<Injected>),
    /// This package, too, must stay behind.
    Again(String, Decision),
}

fn attempt(
    plan: &Plan,
    materials: &Materials<'_>,
    behind: &BTreeMap<String, Decision>,
) -> Result<Attempt> {
    let mut draft = Draft::new(materials.guest.clone(), materials.payloads.clone());
    let now = Time {
        seconds: materials.now.as_second(),
        nanoseconds: 0,
    };
    let options = Options {
        now,
        limits: materials.limits,
    };
    if plan.packages.is_empty() && !plan.fixes.is_empty() {
        // Edits ask nothing of a package database, which the guest may not have.
        let fixes = make_all(&plan.fixes, &mut draft, now)?;
        let done = Injection {
            fixes,
            ..Injection::of(plan, materials.now)
        };
        return Ok(Attempt::Done(Box::new(record(
            plan, materials, draft, done,
        )?)));
    }
    let mut session = Session::open(&mut draft, options)?;
    let native = session.native().to_owned();
    let mut decided = behind.clone();
    let mut packages: Vec<InjectedPackage> = Vec::new();
    for planned in &plan.packages {
        let key = planned.key(&native);
        let mut record = InjectedPackage {
            name: planned.name.clone(),
            architecture: planned.architecture.clone(),
            version: planned.version.clone(),
            installed: planned.installed.clone(),
            payload: planned.payload,
            decision: Decision::Inject,
            configured: None,
            scripts: Vec::new(),
            kept: Vec::new(),
            disappeared: Vec::new(),
        };
        let decision = match decided
            .get(&key)
            .cloned()
            .or_else(|| hindered(planned, &decided))
        {
            Some(decision) => decision,
            None => {
                let deb = unpacked(materials, planned)?;
                match session.unpack(&deb)? {
                    Unpacking::Done {
                        scripts,
                        disappeared,
                    } => {
                        record.scripts = scripts;
                        record.disappeared = disappeared;
                        Decision::Inject
                    }
                    Unpacking::Deferred { scripts } => {
                        let decision = deferral(&scripts);
                        record.scripts = scripts;
                        decision
                    }
                    Unpacking::Refused { why } => Decision::Refuse { why },
                }
            }
        };
        if decision != Decision::Inject {
            // What is unpacked already may not do without this one.
            let early = plan
                .packages
                .iter()
                .take(packages.len())
                .filter(|earlier| earlier.needs.contains(&key))
                .find(|earlier| decided.get(&earlier.key(&native)) == Some(&Decision::Inject));
            if early.is_some() && !behind.contains_key(&key) {
                return Ok(Attempt::Again(key, decision));
            }
            if let Some(earlier) = early {
                let early = earlier.key(&native);
                let decision = because(&decision, planned);
                return Ok(Attempt::Again(early, decision));
            }
        }
        record.decision = decision.clone();
        decided.insert(key, decision);
        packages.push(record);
    }
    let settled = session.configure()?;
    let outstanding = session.outstanding();
    session.finish()?;
    let (others, triggers) = assign(&mut packages, settled);
    let first_boot = finish_guest(plan, materials, &mut draft, &packages, outstanding)?;
    apt::note(plan, &packages, &native, &mut draft, now)?;
    let fixes = make_all(&plan.fixes, &mut draft, now)?;
    let injected = record(
        plan,
        materials,
        draft,
        Injection {
            packages,
            others,
            triggers,
            fixes,
            first_boot,
            ..Injection::of(plan, materials.now)
        },
    )?;
    Ok(Attempt::Done(Box::new(injected)))
}

/// Gives each package of the plan what became of its configuration; the rest was not of the plan.
fn assign(packages: &mut [InjectedPackage], settled: Settled) -> (Vec<Configured>, Vec<Triggered>) {
    let mut others = Vec::new();
    for configured in settled.packages {
        let planned = packages.iter_mut().find(|package| {
            package.decision == Decision::Inject
                && package.name == configured.package
                && package.architecture == configured.architecture
        });
        match planned {
            Some(package) => {
                package.configured = Some(configured.outcome);
                package.scripts.extend(configured.scripts);
                package.kept = configured.kept;
            }
            None => others.push(configured),
        }
    }
    (others, settled.triggers)
}

fn unpacked(materials: &Materials<'_>, planned: &PlannedPackage) -> Result<Arc<Unpacked>> {
    let deb = materials.packages.unpacked(&planned.payload)?;
    let deb = deb.ok_or_else(|| {
        Error::corrupt(format!("the package file of {} is missing", planned.name))
    })?;
    let control = &deb.control;
    if deb.payload != planned.payload
        || control.package() != planned.name
        || control.version() != planned.version
        || control.architecture() != planned.architecture
    {
        return Err(Error::denied(format!(
            "the package file for {} {} is {} {}",
            planned.name,
            planned.version,
            control.package(),
            control.version()
        )));
    }
    Ok(deb)
}

/// A package stays behind with one that it cannot do without.
fn hindered(planned: &PlannedPackage, decided: &BTreeMap<String, Decision>) -> Option<Decision> {
    planned.needs.iter().find_map(|key| match decided.get(key) {
        None | Some(Decision::Inject) => None,
        Some(Decision::Defer { .. }) => Some(Decision::Defer {
            why: format!("it needs {key}, which is deferred"),
            script: None,
        }),
        Some(Decision::Refuse { .. }) => Some(Decision::Refuse {
            why: format!("it needs {key}, which is refused"),
        }),
    })
}

fn because(decision: &Decision, needed: &PlannedPackage) -> Decision {
    let name = &needed.name;
    match decision {
        Decision::Refuse { .. } => Decision::Refuse {
            why: format!("it needs {name}, which is refused"),
        },
        _ => Decision::Defer {
            why: format!("it needs {name}, which is deferred"),
            script: None,
        },
    }
}

fn deferral(scripts: &[ScriptRun]) -> Decision {
    let last = scripts.last();
    let script = last.and_then(|run| match &run.verdict {
        ScriptVerdict::Deferred { reason } => Some(reason.clone()),
        ScriptVerdict::Interpreted { .. } => None,
    });
    let name = last.map_or_else(String::new, |run| {
        format!("{} of {} {}", run.script, run.package, run.version)
    });
    let reason = script.as_ref().map(ToString::to_string).unwrap_or_default();
    Decision::Defer {
        why: format!("its {name} must run before it is unpacked: {reason}"),
        script,
    }
}

/// What is left for the first boot: the package files that wait, and the unit.
fn finish_guest(
    plan: &Plan,
    materials: &Materials<'_>,
    draft: &mut Draft,
    packages: &[InjectedPackage],
    outstanding: Vec<String>,
) -> Result<Vec<FirstBootStep>> {
    let mut steps = Vec::new();
    let mut pending = Vec::new();
    for (planned, package) in plan.packages.iter().zip(packages) {
        if !matches!(package.decision, Decision::Defer { .. }) {
            continue;
        }
        let size = materials
            .packages
            .unpacked(&planned.payload)?
            .map_or(planned.size, |deb| deb.size);
        pending.push(Pending {
            package: planned.name.clone(),
            version: planned.version.clone(),
            architecture: planned.architecture.clone(),
            payload: planned.payload,
            content: Content::Payload {
                payload: planned.payload,
                offset: WHOLE_PACKAGE,
                size,
            },
        });
    }
    let restart = if plan.at_first_boot {
        plan.reboot.clone()
    } else {
        restart_reasons(materials, packages)?
    };
    if !outstanding.is_empty() {
        steps.push(FirstBootStep::Configure {
            packages: outstanding,
        });
    }
    for one in &pending {
        steps.push(FirstBootStep::Install {
            package: one.package.clone(),
            version: one.version.clone(),
            payload: one.payload,
        });
    }
    if !restart.is_empty() {
        steps.push(FirstBootStep::Restart {
            why: restart.clone(),
        });
    }
    if !steps.is_empty() {
        let now = Time {
            seconds: materials.now.as_second(),
            nanoseconds: 0,
        };
        first_boot::install(draft, &pending, &restart, now)?;
    }
    Ok(steps)
}

/// Why the machine is to be started once more after its first boot: it boots what it had until the new kernel's own
/// scripts have made its initial file system and its entry in the boot menu.
fn restart_reasons(materials: &Materials<'_>, packages: &[InjectedPackage]) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    for package in packages {
        let waits = matches!(package.decision, Decision::Defer { .. })
            || matches!(package.configured, Some(Configuring::Left { .. }));
        if !waits {
            continue;
        }
        let deb = materials.packages.unpacked(&package.payload)?;
        let entries = deb.iter().flat_map(|deb| &deb.entries);
        if entries
            .map(|entry| entry.path.as_bytes())
            .any(|path| path.starts_with(b"/boot/vmlinuz-"))
        {
            reasons.push(format!(
                "{} {} becomes the kernel only when the first boot has configured it",
                package.name, package.version
            ));
        }
    }
    Ok(reasons)
}

fn record(
    plan: &Plan,
    materials: &Materials<'_>,
    draft: Draft,
    injection: Injection,
) -> Result<Injected> {
    let mut digests: HashMap<(Digest, u64), Digest> = HashMap::new();
    for package in &plan.packages {
        digests.insert((package.payload, WHOLE_PACKAGE), package.payload);
        let Some(deb) = materials.packages.unpacked(&package.payload)? else {
            continue;
        };
        for entry in &deb.entries {
            if let EntryKind::File { offset, sha256, .. } = &entry.kind {
                digests.insert((deb.payload, *offset), *sha256);
            }
        }
    }
    let differences = draft.differences()?;
    let paths: BTreeMap<GuestPath, PathChange> = differences
        .iter()
        .map(|(path, difference)| {
            let located = |error: Error| error.located(&Locator::default().path(path.clone()));
            let change = change(&draft, &digests, difference).map_err(located)?;
            Ok((path.clone(), change))
        })
        .collect::<Result<_>>()?;
    let bytes = paths
        .values()
        .filter_map(|change| match change {
            PathChange::Put {
                size,
                same_as: None,
                ..
            } => *size,
            _ => None,
        })
        .fold(0, u64::saturating_add);
    let injection = Injection {
        paths,
        inventory: expected(&draft)?,
        bytes,
        ..injection
    };
    Ok(Injected {
        draft,
        differences: Arc::new(differences),
        injection,
    })
}

fn change(
    draft: &Draft,
    digests: &HashMap<(Digest, u64), Digest>,
    difference: &Difference,
) -> Result<PathChange> {
    let (node, attributes, link_to) = match difference {
        Difference::Removed => return Ok(PathChange::Removed),
        Difference::Attributes(attributes) => {
            return Ok(PathChange::Attributes {
                mode: attributes.mode,
                uid: attributes.uid,
                gid: attributes.gid,
                mtime: attributes.mtime,
                xattrs: xattr_digests(&attributes.xattrs),
            });
        }
        Difference::Put {
            node,
            attributes,
            link_to,
        } => (node, attributes, link_to),
    };
    let (size, digest, payload) = match node {
        DraftNode::File(content) => {
            let (digest, payload) = content_digest(draft, digests, content)?;
            (Some(content.size()), Some(digest), payload)
        }
        DraftNode::Symlink(target) => (None, Some(Digest::of(target)), None),
        DraftNode::Directory | DraftNode::Special(..) => (None, None, None),
    };
    Ok(PathChange::Put {
        kind: node.kind(),
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime,
        size,
        digest,
        payload,
        same_as: link_to.clone(),
        xattrs: xattr_digests(&attributes.xattrs),
    })
}

fn content_digest(
    draft: &Draft,
    digests: &HashMap<(Digest, u64), Digest>,
    content: &Content,
) -> Result<(Digest, Option<Digest>)> {
    match content {
        Content::Bytes(bytes) => Ok((Digest::of(bytes), None)),
        Content::Payload {
            payload, offset, ..
        } => {
            let digest = digests.get(&(*payload, *offset)).ok_or_else(|| {
                Error::corrupt("a file from a package file that was not unpacked")
            })?;
            Ok((*digest, Some(*payload)))
        }
        Content::Base { size, .. } => {
            let mut reader = DigestReader::new(draft.open(content)?.take(*size));
            std::io::copy(&mut reader, &mut std::io::sink())
                .map_err(|error| Error::io("cannot read a file of the guest", error))?;
            Ok((reader.finish().0, None))
        }
    }
}

/// What the package database of the draft says.
fn expected(draft: &Draft) -> Result<BTreeSet<ExpectedPackage>> {
    let status = fixed("/var/lib/dpkg/status")?;
    let bytes = draft
        .read(&status, dormouse_packages::dpkg::MAX_STATUS)?
        .unwrap_or_default();
    Ok(inventory(&Database::parse(&bytes)))
}

/// The packages of a database.
pub(crate) fn inventory(database: &Database) -> BTreeSet<ExpectedPackage> {
    database
        .records()
        .iter()
        .map(|record| ExpectedPackage {
            name: record.name.clone(),
            architecture: record.architecture.clone(),
            version: record
                .version
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            status: record.status,
        })
        .collect()
}

impl Plan {
    /// Fills in what became of each package, so that the plan says what an injection would do.
    pub fn decide(&mut self, injection: &Injection) {
        for (planned, package) in self.packages.iter_mut().zip(&injection.packages) {
            planned.decision = Some(package.decision.clone());
            planned.configured.clone_from(&package.configured);
            planned.scripts.clone_from(&package.scripts);
        }
        for (planned, fix) in self.fixes.iter_mut().zip(&injection.fixes) {
            planned.outcome = Some(fix.outcome.clone());
            planned.notes.clone_from(&fix.notes);
        }
        self.triggers.clone_from(&injection.triggers);
        self.first_boot.clone_from(&injection.first_boot);
        self.expected_bytes = injection.bytes;
    }
}

//! What packages say of each other: what dpkg refuses to unpack, and what it leaves unconfigured.

use dormouse_packages::dpkg::{Relation, RelationField, State, Version, Want};
use dormouse_scripts::ScriptName;

use super::{Session, Stop, Work};

impl Session<'_> {
    /// What dpkg would say before it begins.
    pub(super) fn refusal(&self, work: &Work<'_>) -> Option<String> {
        let control = &work.deb.control;
        let known = self.package(work.package);
        let architecture = control.architecture();
        if architecture != "all"
            && architecture != self.native
            && !self.foreign.iter().any(|foreign| foreign == architecture)
        {
            return Some(format!(
                "its architecture {architecture} is not one of the guest's"
            ));
        }
        if known.status.want == Want::Hold {
            return Some("it is on hold".to_owned());
        }
        if known.status.state == State::HalfInstalled {
            return Some("unpacking it was begun and not finished in the guest".to_owned());
        }
        for field in [RelationField::Conflicts, RelationField::PreDepends] {
            let Some(text) = control.get(field.as_str()) else {
                continue;
            };
            let Ok(relations) = Relation::parse_all(text) else {
                return Some(format!("its field {} does not read", field.as_str()));
            };
            for relation in &relations {
                let met = self.meets(relation, work.package);
                if field == RelationField::Conflicts && met {
                    return Some(format!("it conflicts with {relation}, which is there"));
                }
                if field == RelationField::PreDepends && !met {
                    return Some(format!("it needs {relation} unpacked before"));
                }
            }
        }
        for (at, other) in self.packages.iter().enumerate() {
            if at == work.package
                || other.name == control.package()
                || !other.status.state.may_have_files()
            {
                continue;
            }
            let hits = other.conflicts.iter().any(|alternative| {
                alternative.name == control.package()
                    && alternative.constraint.as_ref().is_none_or(|constraint| {
                        Version::parse(control.version())
                            .is_ok_and(|version| constraint.admits(&version))
                    })
            });
            if hits {
                return Some(format!("{} conflicts with it", other.name));
            }
        }
        None
    }

    /// Whether some package other than `except` that is there meets `relation`, itself or by what it provides.
    pub(super) fn meets(&self, relation: &Relation, except: usize) -> bool {
        relation.alternatives().iter().any(|alternative| {
            let admits = |version: &str| {
                alternative.constraint.as_ref().is_none_or(|constraint| {
                    Version::parse(version).is_ok_and(|version| constraint.admits(&version))
                })
            };
            let real = self
                .by_name
                .get(&alternative.name)
                .into_iter()
                .flatten()
                .any(|&at| {
                    let package = self.package(at);
                    at != except
                        && package.status.state.may_have_files()
                        && admits(&package.version)
                });
            real || self.packages.iter().enumerate().any(|(at, package)| {
                at != except
                    && package.status.state.may_have_files()
                    && package.name != self.package(except).name
                    && package.provides.iter().any(|provided| {
                        provided.name == alternative.name
                            && match (&alternative.constraint, &provided.constraint) {
                                (None, _) => true,
                                (Some(wanted), Some(given)) => wanted.admits(&given.version),
                                (Some(_), None) => false,
                            }
                    })
            })
        })
    }

    /// Unpacking leaves what it breaks, and other architectures of another version, unconfigured.
    pub(super) fn deconfigure_others(
        &mut self,
        work: &mut Work<'_>,
        new_version: &str,
    ) -> Result<(), Stop> {
        let control = &work.deb.control;
        let name = control.package().to_owned();
        let mut others: Vec<usize> = Vec::new();
        let same_name = self.by_name.get(&name).cloned().unwrap_or_default();
        for at in same_name {
            let other = self.package(at);
            if at != work.package
                && other.status.state > State::HalfConfigured
                && dormouse_packages::dpkg::compare(&other.version, new_version).is_ne()
            {
                others.push(at);
            }
        }
        let breaks = match control.get("Breaks") {
            Some(text) => Relation::parse_all(text)?,
            None => Vec::new(),
        };
        for alternative in breaks.iter().flat_map(Relation::alternatives) {
            for &at in self.by_name.get(&alternative.name).into_iter().flatten() {
                let other = self.package(at);
                let broken = alternative.constraint.as_ref().is_none_or(|constraint| {
                    Version::parse(&other.version).is_ok_and(|version| constraint.admits(&version))
                });
                if broken
                    && at != work.package
                    && other.name != name
                    && other.status.state > State::HalfConfigured
                    && !others.contains(&at)
                {
                    others.push(at);
                }
            }
        }
        for at in others.into_iter().rev() {
            self.activate_for_processing(at)?;
            self.change(at).set_state(State::HalfConfigured);
            self.note(at);
            self.run_old(
                work,
                at,
                ScriptName::Prerm,
                &["deconfigure", "in-favour", &name, new_version],
            )?;
        }
        Ok(())
    }
}

//! Status changes and the triggers that go with them.

use dormouse_block::Result;
use dormouse_packages::dpkg::State;
use dormouse_scripts::Trigger;

use super::Session;
use super::database::{INFO, read};
use super::trigger::{self, Directive};

fn knows_triggers(state: State) -> bool {
    matches!(state, State::TriggersPending | State::TriggersAwaited)
}

impl Session<'_> {
    /// Records a package's status, as dpkg does after each change of it.
    pub(super) fn note(&mut self, index: usize) {
        let package = self.change(index);
        if !knows_triggers(package.status.state) {
            package.triggers_pending.clear();
        }
        if package.status.state <= State::ConfigFiles {
            package.awaits.clear();
        }
        let nothing_pending = package.triggers_pending.is_empty();
        let due = std::mem::take(&mut package.log_due);
        let line = format!(
            "status {} {} {}",
            package.status.state,
            package.full_name(),
            if package.version.is_empty() {
                "<none>"
            } else {
                &package.version
            }
        );
        if due {
            self.log.add(&line);
        }
        self.renew_view(index);
        if nothing_pending {
            self.clear_awaiters(index);
        }
    }

    /// Nobody waits for `index` any more.
    fn clear_awaiters(&mut self, index: usize) {
        let waiting: Vec<usize> = (0..self.packages.len())
            .filter(|at| self.package(*at).awaits.contains(&index))
            .collect();
        for at in waiting {
            let package = self.change(at);
            package.awaits.retain(|awaited| *awaited != index);
            if package.awaits.is_empty() && package.status.state == State::TriggersAwaited {
                let next = if package.triggers_pending.is_empty() {
                    State::Installed
                } else {
                    State::TriggersPending
                };
                package.set_state(next);
                self.note(at);
            }
        }
    }

    /// `pending` has `trigger` to process, for which `by` waits.
    fn record_activation(&mut self, pending: usize, by: Option<usize>, trigger: &str) {
        let package = self.package(pending);
        if package.status.state < State::TriggersAwaited {
            return;
        }
        if !package
            .triggers_pending
            .iter()
            .any(|known| known == trigger)
        {
            let package = self.change(pending);
            package.triggers_pending.insert(0, trigger.to_owned());
            let next = if package.awaits.is_empty() {
                State::TriggersPending
            } else {
                State::TriggersAwaited
            };
            package.set_state(next);
            self.note(pending);
            if !self.triggered.contains(&pending) {
                self.triggered.push(pending);
            }
        }
        let Some(by) = by.filter(|by| !self.package(*by).awaits.contains(&pending)) else {
            return;
        };
        let package = self.change(by);
        package.awaits.push(pending);
        if matches!(
            package.status.state,
            State::Installed | State::TriggersPending
        ) {
            package.set_state(State::TriggersAwaited);
        }
        self.note(by);
    }

    /// Activates a trigger by its name.
    pub(super) fn activate(&mut self, trigger: &str, by: Option<usize>) {
        for interest in self.interests.in_trigger(trigger) {
            if let Some(pending) = self.find(&interest.package) {
                self.record_activation(pending, by.filter(|_| interest.awaited), trigger);
            }
        }
    }

    /// Activates the triggers of a path that is made, changed or removed, and of the directories above it.
    pub(super) fn activate_path(&mut self, name: &[u8], by: usize) {
        if !self.interests.watches_files() {
            return;
        }
        let mut end = name.len();
        loop {
            let part = name.get(..end).unwrap_or_default();
            for interest in self.interests.in_path(part) {
                if let Some(pending) = self.find(&interest.package) {
                    let trigger = String::from_utf8_lossy(part).into_owned();
                    self.record_activation(
                        pending,
                        Some(by).filter(|_| interest.awaited),
                        &trigger,
                    );
                }
            }
            match part.iter().rposition(|&byte| byte == b'/') {
                Some(cut) if cut > 0 => end = cut,
                _ => return,
            }
        }
    }

    /// Activates what a package's own triggers file asks for.
    pub(super) fn activate_directives(
        &mut self,
        directives: &[Directive],
        by: usize,
    ) -> Result<()> {
        for directive in directives {
            if let Directive::Activate { trigger, awaited } = directive {
                self.activate(trigger, Some(by).filter(|_| *awaited));
            }
        }
        Ok(())
    }

    /// Activates what the installed version asks to be activated whenever its status changes.
    pub(super) fn activate_for_processing(&mut self, index: usize) -> Result<()> {
        let name = self.package(index).info_name();
        if !self
            .info
            .get(&name)
            .is_some_and(|kinds| kinds.contains("triggers"))
        {
            return Ok(());
        }
        let bytes = read(self.draft, &format!("{INFO}/{name}.triggers"))?;
        self.activate_directives(&trigger::directives(&bytes)?, index)
    }

    /// Notes the triggers that a maintainer script activated.
    pub(super) fn take_activations(&mut self, triggers: &[Trigger]) {
        for trigger in triggers {
            let by = trigger
                .by
                .as_ref()
                .filter(|_| trigger.awaited)
                .and_then(|name| self.find(name));
            self.activate(&trigger.name, by);
        }
    }
}

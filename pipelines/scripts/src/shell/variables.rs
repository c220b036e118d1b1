//! Shell variables.

use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug, Clone, Default)]
pub(crate) struct Variable {
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) exported: bool,
    pub(crate) readonly: bool,
}

/// The variables of one shell, and what `local` has hidden.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    all: Rc<BTreeMap<Vec<u8>, Variable>>,
    hidden: Rc<Vec<BTreeMap<Vec<u8>, Option<Variable>>>>,
}

impl Variables {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.all.get(name)?.value.as_deref()
    }

    pub(crate) fn variable(&self, name: &[u8]) -> Option<&Variable> {
        self.all.get(name)
    }

    pub(crate) fn is_readonly(&self, name: &[u8]) -> bool {
        self.all.get(name).is_some_and(|variable| variable.readonly)
    }

    pub(crate) fn entry(&mut self, name: &[u8]) -> &mut Variable {
        Rc::make_mut(&mut self.all)
            .entry(name.to_vec())
            .or_default()
    }

    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.entry(name).value = Some(value.to_vec());
    }

    pub(crate) fn set_exported(&mut self, name: &[u8], value: &[u8]) {
        let variable = self.entry(name);
        variable.value = Some(value.to_vec());
        variable.exported = true;
    }

    pub(crate) fn unset(&mut self, name: &[u8]) {
        Rc::make_mut(&mut self.all).remove(name);
    }

    /// Puts `variable` (or nothing) in the place of what `name` is.
    pub(crate) fn restore(&mut self, name: &[u8], variable: Option<Variable>) {
        let all = Rc::make_mut(&mut self.all);
        match variable {
            Some(variable) => all.insert(name.to_vec(), variable),
            None => all.remove(name),
        };
    }

    pub(crate) fn exported(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.all.iter().filter_map(|(name, variable)| {
            variable
                .exported
                .then(|| Some((name.as_slice(), variable.value.as_deref()?)))
                .flatten()
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Variable)> {
        self.all.iter()
    }

    /// Enters a function.
    pub(crate) fn push_frame(&mut self) {
        Rc::make_mut(&mut self.hidden).push(BTreeMap::new());
    }

    /// Leaves a function: its local variables end.
    pub(crate) fn pop_frame(&mut self) {
        let Some(frame) = Rc::make_mut(&mut self.hidden).pop() else {
            return;
        };
        for (name, variable) in frame {
            self.restore(&name, variable);
        }
    }

    /// Makes `name` local to the current function; false outside of one.
    pub(crate) fn make_local(&mut self, name: &[u8]) -> bool {
        let before = self.all.get(name).cloned();
        match Rc::make_mut(&mut self.hidden).last_mut() {
            Some(frame) => {
                frame.entry(name.to_vec()).or_insert(before);
                true
            }
            None => false,
        }
    }
}

//! debconf's databases: `config.dat` and `templates.dat`.

use std::collections::{BTreeMap, BTreeSet};

/// A question or template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// By lower-case name; newlines are `\n` in the file.
    fields: BTreeMap<String, String>,
    pub(super) owners: BTreeSet<String>,
    pub(super) flags: BTreeSet<String>,
    pub(super) variables: BTreeMap<String, String>,
}

impl Item {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(super) fn set_field(&mut self, name: &str, value: &str) {
        self.fields.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn replace_fields(&mut self, fields: BTreeMap<String, String>) {
        self.fields = fields;
    }
}

#[derive(Debug, Default)]
pub(super) struct Database {
    items: BTreeMap<String, Item>,
    changed: bool,
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(',')
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

impl Database {
    /// Reads a file; `None` when it is broken or not UTF-8.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut items = BTreeMap::new();
        let mut name: Option<String> = None;
        let mut item = Item::default();
        let mut in_variables = false;
        for line in text.lines().chain([""]) {
            if line.is_empty() {
                if let Some(name) = name.take() {
                    items.insert(name, std::mem::take(&mut item));
                }
                in_variables = false;
                continue;
            }
            if let Some(rest) = line.strip_prefix(' ') {
                if !in_variables {
                    return None;
                }
                let (variable, value) = rest.split_once(" =")?;
                let value = value.strip_prefix(' ').unwrap_or(value);
                item.variables
                    .insert(variable.trim().to_owned(), value.replace("\\n", "\n"));
                continue;
            }
            let (key, value) = line.split_once(':')?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            in_variables = key == "Variables";
            match key {
                "Name" => name = Some(value.to_owned()),
                "Owners" => item.owners = words(value),
                "Flags" => item.flags = words(value),
                "Variables" => {}
                key => item.set_field(&key.to_ascii_lowercase(), &value.replace("\\n", "\n")),
            }
        }
        Some(Self {
            items,
            changed: false,
        })
    }

    /// The file.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut out = String::new();
        for (name, item) in &self.items {
            out.push_str(&format!("Name: {name}\n"));
            for (field, value) in &item.fields {
                let mut letters = field.chars();
                let first = letters.next().map(|first| first.to_ascii_uppercase());
                out.extend(first);
                out.push_str(letters.as_str());
                out.push_str(&format!(": {}\n", value.replace('\n', "\\n")));
            }
            let join =
                |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(", ");
            if !item.owners.is_empty() {
                out.push_str(&format!("Owners: {}\n", join(&item.owners)));
            }
            if !item.flags.is_empty() {
                out.push_str(&format!("Flags: {}\n", join(&item.flags)));
            }
            if !item.variables.is_empty() {
                out.push_str("Variables:\n");
                for (variable, value) in &item.variables {
                    out.push_str(&format!(" {variable} = {}\n", value.replace('\n', "\\n")));
                }
            }
            out.push('\n');
        }
        out.into_bytes()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Item> {
        self.items.get(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.items.keys().cloned().collect()
    }

    /// Changes an item, which marks the database as changed even if it stays the same; false when there is none.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Item)) -> bool {
        let Some(item) = self.items.get_mut(name) else {
            return false;
        };
        change(item);
        self.changed = true;
        true
    }

    pub(super) fn add_owner(&mut self, name: &str, owner: &str) {
        let item = self.items.entry(name.to_owned()).or_default();
        self.changed |= item.owners.insert(owner.to_owned());
    }

    /// True when that was the last owner, and the item went with it.
    pub(super) fn remove_owner(&mut self, name: &str, owner: &str) -> bool {
        let Some(item) = self.items.get_mut(name) else {
            return false;
        };
        self.changed |= item.owners.remove(owner);
        if item.owners.is_empty() {
            self.items.remove(name);
            self.changed = true;
            return true;
        }
        false
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

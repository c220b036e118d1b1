//! debconf's databases: `config.dat` with `passwords.dat`, and `templates.dat`.

use std::collections::{BTreeMap, BTreeSet};

/// A question or template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// By lower-case name; newlines are `\n` in the file.
    fields: BTreeMap<String, String>,
    pub(super) owners: BTreeSet<String>,
    pub(super) flags: BTreeSet<String>,
    pub(super) variables: BTreeMap<String, String>,
    /// It is a password, and stands in the file that only root reads.
    secret: bool,
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
    changed: Changed,
}

/// Which of its files are to be written anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// That of what everybody may read.
    pub(super) plain: bool,
    /// That of passwords.
    pub(super) secret: bool,
}

impl Changed {
    fn note(&mut self, secret: bool) {
        if secret {
            self.secret = true;
        } else {
            self.plain = true;
        }
    }
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
            changed: Changed::default(),
        })
    }

    /// Adds the passwords of a file of their own; what is known already stands.
    pub(super) fn add_secrets(&mut self, secrets: Self) {
        for (name, mut item) in secrets.items {
            item.secret = true;
            self.items.entry(name).or_insert(item);
        }
    }

    /// The file: that of passwords, or that of everything else.
    pub(super) fn text(&self, secret: bool) -> Vec<u8> {
        // A value on one line.
        fn push(out: &mut String, value: &str) {
            for (nth, line) in value.split('\n').enumerate() {
                if nth > 0 {
                    out.push_str("\\n");
                }
                out.push_str(line);
            }
            out.push('\n');
        }
        let mut out = String::new();
        for (name, item) in self.items.iter().filter(|(_, item)| item.secret == secret) {
            out.push_str("Name: ");
            out.push_str(name);
            out.push('\n');
            for (field, value) in &item.fields {
                let mut letters = field.chars();
                let first = letters.next().map(|first| first.to_ascii_uppercase());
                out.extend(first);
                out.push_str(letters.as_str());
                out.push_str(": ");
                push(&mut out, value);
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
                    out.push(' ');
                    out.push_str(variable);
                    out.push_str(" = ");
                    push(&mut out, value);
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
        self.changed.note(item.secret);
        true
    }

    /// Adds an owner; an item that is not there yet is a password or not, as `secret` says.
    pub(super) fn add_owner(&mut self, name: &str, owner: &str, secret: bool) {
        let item = self.items.entry(name.to_owned()).or_insert_with(|| Item {
            secret,
            ..Item::default()
        });
        if item.owners.insert(owner.to_owned()) {
            self.changed.note(item.secret);
        }
    }

    /// True when that was the last owner, and the item went with it.
    pub(super) fn remove_owner(&mut self, name: &str, owner: &str) -> bool {
        let Some(item) = self.items.get_mut(name) else {
            return false;
        };
        if item.owners.remove(owner) {
            self.changed.note(item.secret);
        }
        let gone = item.owners.is_empty();
        if gone {
            self.changed.note(item.secret);
            self.items.remove(name);
        }
        gone
    }

    pub(super) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_in_the_file_that_only_root_reads() {
        let plain: &[u8] = b"Name: one/port\nTemplate: one/port\nValue: 25\nOwners: one\n\n";
        let secret: &[u8] =
            b"Name: one/password\nTemplate: one/password\nValue: hush\nOwners: one\n\n";
        let mut database = Database::parse(plain).unwrap();
        database.add_secrets(Database::parse(secret).unwrap());
        assert_eq!(database.text(false), plain);
        assert_eq!(database.text(true), secret);
        assert_eq!(
            database
                .get("one/password")
                .and_then(|item| item.field("value")),
            Some("hush")
        );

        database.add_owner("two/password", "two", true);
        assert_eq!(
            database.take_changed(),
            Changed {
                plain: false,
                secret: true
            }
        );
        assert!(database.change("one/port", |item| item.set_field("value", "26")));
        assert_eq!(
            database.take_changed(),
            Changed {
                plain: true,
                secret: false
            }
        );
        assert!(database.remove_owner("one/password", "one"));
        assert!(database.take_changed().secret);
        let left = String::from_utf8(database.text(true)).unwrap();
        assert!(left.contains("two/password") && !left.contains("hush"));
        assert!(
            !String::from_utf8(database.text(false))
                .unwrap()
                .contains("password")
        );
    }
}

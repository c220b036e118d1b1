//! A package's templates and how they enter the databases.

use std::collections::BTreeMap;

use super::database::Database;

/// A template's name and fields; long descriptions are `extended_` fields.
pub(super) struct Template {
    name: String,
    fields: BTreeMap<String, String>,
}

/// Reads a templates file; `None` when it is broken.
pub(super) fn parse(text: &[u8]) -> Option<Vec<Template>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut out = Vec::new();
    for stanza in text.split("\n\n") {
        let stanza = stanza.trim_matches('\n');
        if stanza.is_empty() {
            continue;
        }
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut field = String::new();
        let mut value = String::new();
        let mut extended = String::new();
        let save =
            |field: &str, value: &str, extended: &str, fields: &mut BTreeMap<String, String>| {
                if field.is_empty() {
                    return true;
                }
                if fields.insert(field.to_owned(), value.to_owned()).is_some() {
                    return false;
                }
                let extended = extended.trim_end_matches('\n');
                if !extended.is_empty() {
                    fields.insert(format!("extended_{field}"), extended.to_owned());
                }
                true
            };
        for line in stanza.split('\n') {
            let is_key = |key: &str| {
                key.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_@.".contains(c))
            };
            if line == " ." {
                extended.push_str("\n\n");
            } else if let Some(rest) = line.strip_prefix([' ', '\t']) {
                let kept = rest.starts_with([' ', '\t']);
                let bit = rest.trim_end();
                if !extended.is_empty() && !extended.ends_with(['\n', ' ']) {
                    extended.push(if kept { '\n' } else { ' ' });
                }
                extended.push_str(bit);
                if kept {
                    extended.push('\n');
                }
            } else {
                let (key, rest) = line.split_once(':').filter(|(key, _)| is_key(key))?;
                if !save(&field, &value, &extended, &mut fields) {
                    return None;
                }
                field = key.to_ascii_lowercase();
                value = rest
                    .strip_prefix([' ', '\t'])
                    .unwrap_or(rest)
                    .trim_end()
                    .to_owned();
                extended.clear();
            }
        }
        if !save(&field, &value, &extended, &mut fields) {
            return None;
        }
        let name = fields.remove("template").filter(|name| !name.is_empty())?;
        out.push(Template { name, fields });
    }
    Some(out)
}

/// Enters a template and the question of its name; false when its type has changed.
pub(super) fn register(
    template: &Template,
    config: &mut Database,
    templates: &mut Database,
    owner: &str,
) -> bool {
    let name = &template.name;
    let kind = template.fields.get("type").map(String::as_str);
    let known = templates.get(name).and_then(|item| item.field("type"));
    if known.is_some() && known != kind {
        return false;
    }
    // Every template has a question of its own name.
    config.add_owner(name, owner, kind == Some("password"));
    let is_new = config
        .get(name)
        .is_some_and(|item| item.field("template").is_none());
    if is_new {
        config.change(name, |item| item.set_field("template", name));
    }
    templates.add_owner(name, name, false);
    templates.change(name, |item| item.replace_fields(template.fields.clone()));
    true
}

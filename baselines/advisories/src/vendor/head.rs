//! What a document is, by its beginning.

/// The keys of the object that a JSON text begins with, as far as they stand in its beginning; of the first object in an array.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// It begins with an array.
    pub(super) is_array: bool,
    /// Keys, with their values where those are texts.
    pub(super) keys: Vec<(String, String)>,
}

impl Head {
    /// Looks through the beginning of a text; `None` when that is no JSON.
    pub(super) fn of_json(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii_start();
        let mut head = Self {
            is_array: text.first() == Some(&b'['),
            keys: Vec::new(),
        };
        let object = if head.is_array {
            text.get(1..)?.trim_ascii_start()
        } else {
            text
        };
        if object.first() != Some(&b'{') {
            return None;
        }
        let mut depth = 0_usize;
        let mut at = 0_usize;
        // A text in the outermost object is a key when a colon follows it, and a value when one was before it.
        let mut key: Option<String> = None;
        let mut last = String::new();
        while let Some(&byte) = object.get(at) {
            match byte {
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        break;
                    }
                }
                b'"' => {
                    let rest = object.get(at.saturating_add(1)..).unwrap_or_default();
                    let Some(end) = end_of_text(rest) else {
                        break;
                    };
                    if depth == 1 {
                        let part = rest.get(..end.min(200)).unwrap_or_default();
                        last = String::from_utf8_lossy(part).into_owned();
                        if let Some(key) = key.take() {
                            head.set(&key, &last);
                        }
                    }
                    at = at.saturating_add(end).saturating_add(1);
                }
                b':' if depth == 1 => {
                    key = Some(last.clone());
                    head.keys.push((last.clone(), String::new()));
                }
                b',' if depth == 1 => key = None,
                _ => {}
            }
            at = at.saturating_add(1);
        }
        Some(head)
    }

    fn set(&mut self, key: &str, value: &str) {
        if let Some((_, known)) = self.keys.iter_mut().rev().find(|(known, _)| known == key) {
            value.clone_into(known);
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| known == key)
    }

    pub(super) fn value(&self, key: &str) -> &str {
        let found = self.keys.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value)
    }
}

/// Where a text ends, after its first quote.
fn end_of_text(rest: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        match rest.get(at)? {
            b'"' => return Some(at),
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
}

/// The name of an XML text's root element, without its prefix.
pub(super) fn root_element(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let inner = rest.strip_prefix('<')?;
        let close = if inner.starts_with("!--") { "-->" } else { ">" };
        if inner.starts_with(['?', '!']) {
            let (_, after) = inner.split_once(close)?;
            rest = after.trim_start();
            continue;
        }
        let end = inner.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?;
        let name = inner.get(..end)?;
        return Some(name.rsplit(':').next().unwrap_or(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_keys_are_seen_and_no_others() {
        let head = Head::of_json(
            br#" {"a": {"b": "c"}, "d\"e": ["f", {"g": 1}], "h": "i", "j": 1, "k": "cut of"#,
        );
        let head = head.unwrap();
        let keys: Vec<_> = head.keys.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "d\\\"e", "h", "j", "k"]);
        assert_eq!((head.value("h"), head.value("a")), ("i", ""));
        assert!(
            Head::of_json(br#"[{"name": "x"}, {"y": 1}]"#)
                .unwrap()
                .has("name")
        );
        assert!(
            !Head::of_json(br#"[{"name": "x"}, {"y": 1}]"#)
                .unwrap()
                .has("y")
        );
        for text in ["", "[]", "x", "[1]", "<a>"] {
            assert_eq!(Head::of_json(text.as_bytes()), None, "{text}");
        }
        assert_eq!(
            root_element("<?xml version='1'?>\n<!-- <no> -->\n<o:updates a='b'>"),
            Some("updates")
        );
        assert_eq!(root_element("<!-- never ends"), None);
    }
}

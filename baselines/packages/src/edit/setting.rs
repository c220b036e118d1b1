//! A key of a configuration file set to a value, where and as the file writes its settings.
//!
//! Every place that sets the key gets the value, so that it holds whether the first or the last counts. Indentation, the blanks
//! around the separator, quotes and a comment after the value stay. A key that is nowhere set comes after a comment that shows it,
//! else after the last setting of its section, else where the section begins or what holds for all ends; a section that is not
//! there comes at the end. What was made is read back by the probe's own reader, and refused where that reads anything else.

use std::ops::Range;

use dormouse_block::{Error, Result};

use super::SettingEdit;
use super::lines::Lines;
use crate::SettingProbe;

/// What a line of a configuration file is.
enum Kind<'a> {
    Blank,
    Comment(&'a str),
    Section(&'a str),
    /// Here ends what holds for all.
    End,
    Setting,
}

impl SettingEdit {
    /// The text as it is to be.
    ///
    /// # Errors
    /// `Unsupported` where the value is continued on further lines, or cannot be written so that it reads back.
    pub(super) fn edited(&self, text: &str) -> Result<String> {
        let probe = self.probe();
        let mut lines = Lines::of(text);
        let wanted = probe.plain(&self.value);
        let survey = self.survey(&probe, &lines);
        if survey.places.is_empty() {
            self.insert(&survey, &mut lines);
        }
        for &place in &survey.places {
            let line = lines.lines.get(place).map_or("", String::as_str);
            let line = lines.plain(line).to_owned();
            let Some(parts) = Parts::of(&line, &self.separator) else {
                continue;
            };
            let value = line.get(parts.value.clone()).unwrap_or_default();
            if probe.plain(value) == wanted {
                continue;
            }
            self.refuse_continued(&lines, place, &line)?;
            let token = self.token(value);
            let tail = value.get(token..).unwrap_or_default();
            let new = self.spelt(value, &wanted);
            let head = line.get(..parts.value.start).unwrap_or_default();
            // A key alone, before a value that blanks part from it.
            let blank = if self.separator.trim().is_empty() && head == head.trim_end() {
                " "
            } else {
                ""
            };
            let after = line.get(parts.value.end..).unwrap_or_default();
            lines.replace(place, &format!("{head}{blank}{new}{tail}{after}"));
        }
        let text = lines.text();
        let mut found = Vec::new();
        probe.scan(&self.path, &text, &mut found)?;
        if found.is_empty() || found.iter().any(|one| one.value != wanted) {
            return Err(Error::unsupported(format!(
                "{} = {} cannot be written so that it reads back",
                self.key, self.value
            )));
        }
        Ok(text)
    }

    fn kind<'a>(&self, probe: &SettingProbe, line: &'a str) -> Kind<'a> {
        let line = line.trim();
        if line.is_empty() {
            return Kind::Blank;
        }
        let is_mark = |c: char| self.comments.contains(c);
        if line.starts_with(is_mark) {
            return Kind::Comment(line.trim_start_matches(is_mark).trim_start());
        }
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return Kind::Section(name.trim());
        }
        let word = line.split_whitespace().next().unwrap_or_default();
        if self
            .ends_at
            .as_ref()
            .is_some_and(|end| probe.same(word, end))
        {
            return Kind::End;
        }
        Kind::Setting
    }

    /// Where the key is set, and where it would be.
    fn survey(&self, probe: &SettingProbe, lines: &Lines) -> Survey {
        let mut survey = Survey::default();
        let mut section: Option<&str> = None;
        for (number, line) in lines.lines.iter().enumerate() {
            let line = lines.plain(line);
            let here = section == self.section.as_deref();
            match self.kind(probe, line) {
                Kind::Blank => {}
                Kind::Comment(text) => {
                    if here && probe.value_in(text).is_some() {
                        survey.shown = Some(number);
                    }
                }
                Kind::Section(name) => {
                    survey.border.get_or_insert(number);
                    section = Some(name);
                    if section == self.section.as_deref() {
                        survey.last = Some(number);
                    }
                }
                Kind::End => {
                    survey.border.get_or_insert(number);
                    survey.end = Some(number);
                    break;
                }
                Kind::Setting if here => {
                    survey.last = Some(number);
                    if Parts::of(line, &self.separator).is_some() {
                        survey.style = Some(number);
                    }
                    if probe.value_in(line.trim()).is_some() {
                        survey.places.push(number);
                    }
                }
                Kind::Setting => {}
            }
        }
        survey
    }

    /// Puts a new line where it belongs.
    fn insert(&self, survey: &Survey, lines: &mut Lines) {
        let style = survey.style.and_then(|number| {
            let line = lines.plain(lines.lines.get(number)?);
            let parts = Parts::of(line, &self.separator)?;
            let indent = line.get(..parts.key.start)?;
            let between = line.get(parts.key.end..parts.value.start)?;
            Some((indent.to_owned(), between.to_owned()))
        });
        let (indent, between) = style.unwrap_or_default();
        let between = if between.is_empty() {
            self.separator.clone()
        } else {
            between
        };
        let line = format!("{indent}{}{between}{}", self.key, self.value);
        let line = line.trim_end();
        let after = survey.shown.or(survey.last);
        let mut at = match (after, &self.section) {
            (Some(after), _) => after.saturating_add(1),
            (None, None) => survey.border.unwrap_or(lines.lines.len()),
            (None, Some(_)) => survey.end.unwrap_or(lines.lines.len()),
        };
        if let (None, Some(section)) = (after, &self.section) {
            let before = at.checked_sub(1).and_then(|before| lines.lines.get(before));
            if before.is_some_and(|before| !before.trim().is_empty()) {
                lines.insert(at, "");
                at = at.saturating_add(1);
            }
            lines.insert(at, &format!("[{section}]"));
            at = at.saturating_add(1);
        }
        lines.insert(at, line);
    }

    /// The bytes of a value that are the value, without the comment after it.
    fn token(&self, value: &str) -> usize {
        if let Some((quote, inner)) = quoted(value) {
            let quotes = quote.len_utf8().saturating_mul(2);
            return inner.len().saturating_add(quotes);
        }
        let mut blank = false;
        for (at, character) in value.char_indices() {
            if blank && self.comments.contains(character) {
                return value.get(..at).unwrap_or(value).trim_end().len();
            }
            blank = character.is_whitespace();
        }
        value.len()
    }

    /// The new value, in the quotes of the old one where it has none of its own.
    fn spelt(&self, old: &str, wanted: &str) -> String {
        match quoted(old) {
            Some((quote, _)) if wanted == self.value && !wanted.contains(quote) => {
                format!("{quote}{wanted}{quote}")
            }
            _ => self.value.clone(),
        }
    }

    /// A value that goes on below cannot be replaced by its first line alone.
    fn refuse_continued(&self, lines: &Lines, place: usize, line: &str) -> Result<()> {
        let next = lines.lines.get(place.saturating_add(1));
        let next = next.map_or("", |next| lines.plain(next));
        let is_indented = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
        let separator = self.separator.trim();
        let goes_on = !separator.is_empty()
            && is_indented(next)
            && !is_indented(line)
            && !next.contains(separator)
            && !next.trim().starts_with(|c| self.comments.contains(c));
        if goes_on || line.ends_with('\\') {
            return Err(Error::unsupported(format!(
                "line {}: {} is continued on the next line",
                place.saturating_add(1),
                self.key
            )));
        }
        Ok(())
    }
}

/// The quote that a value begins with and that ends it, and what is between.
fn quoted(value: &str) -> Option<(char, &str)> {
    ['"', '\''].into_iter().find_map(|quote| {
        let (inner, _) = value.strip_prefix(quote)?.split_once(quote)?;
        Some((quote, inner))
    })
}

/// Line numbers, counted from 0.
#[derive(Debug, Default)]
struct Survey {
    /// Where the key is set.
    places: Vec<usize>,
    /// The last comment of the section that shows the key.
    shown: Option<usize>,
    /// The last setting of the section, or its head.
    last: Option<usize>,
    /// The last line of the section that shows how settings are written.
    style: Option<usize>,
    /// Where the first section begins, or what holds for all ends.
    border: Option<usize>,
    /// Where what holds for all ends.
    end: Option<usize>,
}

/// Where key and value are in a line that has a separator.
struct Parts {
    key: Range<usize>,
    value: Range<usize>,
}

impl Parts {
    /// Blanks at the end belong to neither.
    fn of(line: &str, separator: &str) -> Option<Self> {
        let start = line.len().saturating_sub(line.trim_start().len());
        let end = line.trim_end().len();
        let body = line.get(start..end)?;
        let separator = separator.trim();
        let (key, rest) = if separator.is_empty() {
            let at = body.find(char::is_whitespace).unwrap_or(body.len());
            body.split_at_checked(at)?
        } else {
            let at = body.find(separator)?;
            let (key, rest) = body.split_at_checked(at)?;
            (key.trim_end(), rest.strip_prefix(separator)?)
        };
        let key_end = start.saturating_add(key.len());
        let value = end.saturating_sub(rest.trim_start().len());
        // An empty value begins where the blanks after the separator end.
        let (value, end) = if rest.trim().is_empty() {
            (line.len(), line.len())
        } else {
            (value, end)
        };
        Some(Self {
            key: start..key_end,
            value: value..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Edit;

    fn edit(keys: &str) -> SettingEdit {
        let json = format!("{{\"do\": \"set\", \"path\": \"/etc/x\", {keys}}}");
        match serde_json::from_str(&json).unwrap() {
            Edit::Set(edit) => edit,
            other => panic!("{other}"),
        }
    }

    const K: &str = r#""key": "k", "value": "v""#;
    const SSH: &str = r##""key": "Root", "value": "no", "separator": " ", "comments": "#", "ignore-case": true, "ends-at": "Match""##;

    #[test]
    fn values_are_set_as_the_file_writes_them() {
        let section = format!("{K}, \"section\": \"s\"");
        for (keys, before, after) in [
            (K, "", "k=v\n"),
            (K, "k=v", "k=v"),
            (K, "k = old # why\nk=v\n", "k = v # why\nk=v\n"),
            (K, "  k\t=\told  \n", "  k\t=\tv  \n"),
            (K, "k = \"old\" ; x\n", "k = \"v\" ; x\n"),
            (K, "k = 'old'\n", "k = 'v'\n"),
            (K, "k=\n", "k=v\n"),
            (K, "k = \n", "k = v\n"),
            (K, "a = 1\n\n[s]\nk = 2\n", "a = 1\nk = v\n\n[s]\nk = 2\n"),
            (K, "# hello\n[s]\nk = 2\n", "# hello\nk=v\n[s]\nk = 2\n"),
            (K, "a = 1\n#k = 3\nb = 2\n", "a = 1\n#k = 3\nk = v\nb = 2\n"),
            (K, "a: 1", "a: 1\nk=v\n"),
            (K, "a = 1\r\nb = 2\r\n", "a = 1\r\nb = 2\r\nk = v\r\n"),
            (&section, "k = 1\n", "k = 1\n\n[s]\nk=v\n"),
            (&section, "", "[s]\nk=v\n"),
            (
                &section,
                "[s]\na = 1\n\n[t]\nk = 1\n",
                "[s]\na = 1\nk = v\n\n[t]\nk = 1\n",
            ),
            (&section, "[s]\n[t]\n", "[s]\nk=v\n[t]\n"),
            (
                &section,
                "[s]\n k=1\n[t]\nk=1\n[s]\nk=2",
                "[s]\n k=v\n[t]\nk=1\n[s]\nk=v",
            ),
            (SSH, "root yes\nRoot\nX y\n", "root no\nRoot no\nX y\n"),
            (
                SSH,
                "X y\nMatch User a\nRoot yes\n",
                "X y\nRoot no\nMatch User a\nRoot yes\n",
            ),
            (
                SSH,
                "#Root x\n\nMatch User a\n  Root yes\n",
                "#Root x\nRoot no\n\nMatch User a\n  Root yes\n",
            ),
            (r#""key": "k", "value": "\"a b\"""#, "k=x\n", "k=\"a b\"\n"),
            (
                r#""key": "k", "value": "\"a b\"""#,
                "k='a b'\n",
                "k='a b'\n",
            ),
            (
                r#""key": "k", "value": "'a'", "separator": " = ""#,
                "",
                "k = 'a'\n",
            ),
        ] {
            let edit = edit(keys);
            let once = edit.edited(before).unwrap();
            assert_eq!(once, after, "{keys} {before:?}");
            assert_eq!(
                edit.edited(&once).unwrap(),
                once,
                "twice: {keys} {before:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_set_safely_is_refused() {
        for (keys, before) in [
            (K, "k = a\n  b\n"),
            (K, "k = a \\\nb\n"),
            (
                r#""key": "k", "value": "v", "separator": ":""#,
                "k: a\n  b\n",
            ),
        ] {
            let error = edit(keys).edited(before).unwrap_err();
            assert_eq!(error.kind(), dormouse_block::ErrorKind::Unsupported);
        }
        assert!(edit(K).edited("k = a\n  b = 1\n").is_ok());
    }
}

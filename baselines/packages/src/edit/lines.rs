//! Lines of a text file: whole lines put, replaced and removed, each file's own line ends kept.

use super::{LineEdit, LineState};
use crate::Glob;

/// A text and how its lines end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lines {
    /// Without their ends.
    pub(super) lines: Vec<String>,
    /// Whether they end as DOS has it.
    dos: bool,
    /// Whether the last one ends too.
    ended: bool,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let ended = text.is_empty() || text.ends_with('\n');
        let dos = text
            .split_once('\n')
            .is_some_and(|(first, _)| first.ends_with('\r'));
        let body = text.strip_suffix('\n').unwrap_or(text);
        let lines = if text.is_empty() {
            Vec::new()
        } else {
            body.split('\n').map(str::to_owned).collect()
        };
        Self { lines, dos, ended }
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        if self.ended && !self.lines.is_empty() {
            text.push('\n');
        }
        text
    }

    /// A line without the carriage return that ends it in a DOS file.
    pub(super) fn plain<'a>(&self, line: &'a str) -> &'a str {
        if self.dos {
            line.strip_suffix('\r').unwrap_or(line)
        } else {
            line
        }
    }

    /// A line as this file has it.
    pub(super) fn spelt(&self, line: &str) -> String {
        if self.dos {
            format!("{line}\r")
        } else {
            line.to_owned()
        }
    }

    /// Puts a line before the one of this number, or at the end, where the last line gets its end.
    pub(super) fn insert(&mut self, at: usize, line: &str) {
        if at >= self.lines.len() && !self.ended {
            if let Some(last) = self.lines.last().map(|last| self.spelt(last))
                && let Some(slot) = self.lines.last_mut()
            {
                *slot = last;
            }
            self.ended = true;
        }
        let line = self.spelt(line);
        self.lines.insert(at.min(self.lines.len()), line);
    }

    /// Keeps the lines that are said to be kept; one that comes last in the place of an unended one ends as it did.
    pub(super) fn keep(&mut self, keep: &[bool]) {
        if keep.last() == Some(&false) {
            self.ended = true;
        }
        let mut keep = keep.iter();
        self.lines.retain(|_| keep.next() != Some(&false));
    }

    /// Puts another line in the place of one, which keeps its end.
    pub(super) fn replace(&mut self, at: usize, line: &str) {
        let Some(old) = self.lines.get(at) else {
            return;
        };
        let new = if self.plain(old) == old {
            line.to_owned()
        } else {
            self.spelt(line)
        };
        if let Some(slot) = self.lines.get_mut(at) {
            *slot = new;
        }
    }
}

impl LineEdit {
    /// The text as it is to be.
    pub(super) fn edited(&self, text: &str) -> String {
        let mut lines = Lines::of(text);
        let matches = |glob: &Option<Glob>, line: &str| {
            glob.as_ref()
                .is_some_and(|glob| glob.matches(lines.plain(line)))
        };
        let is_it = |line: &str| self.line.as_deref() == Some(lines.plain(line));
        let is_there = lines.lines.iter().any(|line| is_it(line));
        let others: Vec<bool> = lines
            .lines
            .iter()
            .map(|line| !is_it(line) && matches(&self.matching, line))
            .collect();
        if self.state == LineState::Absent {
            let going = lines.lines.iter().zip(&others);
            let keep: Vec<bool> = going.map(|(line, other)| !is_it(line) && !other).collect();
            lines.keep(&keep);
            return lines.text();
        }
        let Some(wanted) = &self.line else {
            return text.to_owned();
        };
        let first = others.iter().position(|other| *other);
        let first = first.filter(|_| !is_there);
        if let Some(first) = first {
            lines.replace(first, wanted);
        }
        let keep: Vec<bool> = (0_usize..)
            .zip(&others)
            .map(|(nth, other)| !other || Some(nth) == first)
            .collect();
        lines.keep(&keep);
        if is_there || first.is_some() {
            return lines.text();
        }
        let after = self.after.as_ref().and_then(|after| {
            let lines = &lines;
            let mut all = lines.lines.iter();
            all.rposition(|line| after.matches(lines.plain(line)))
        });
        let at = after.map_or(lines.lines.len(), |after| after.saturating_add(1));
        lines.insert(at, wanted);
        lines.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Edit;

    fn edit(keys: &str) -> LineEdit {
        let json = format!("{{\"do\": \"line\", \"path\": \"/etc/x\", {keys}}}");
        match serde_json::from_str(&json).unwrap() {
            Edit::Line(edit) => edit,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn lines_are_put_replaced_and_removed_once() {
        for (keys, before, after) in [
            (r#""line": "b""#, "a\n", "a\nb\n"),
            (r#""line": "b""#, "a", "a\nb\n"),
            (r#""line": "b""#, "", "b\n"),
            (r#""line": "b""#, "b\na", "b\na"),
            (r#""line": "b""#, "a\r\nc", "a\r\nc\r\nb\r\n"),
            (
                r#""line": "b", "after": "a*""#,
                "a1\na2\nc\n",
                "a1\na2\nb\nc\n",
            ),
            (r#""line": "b", "after": "x*""#, "a\n", "a\nb\n"),
            (
                r#""line": "k=2", "matching": "k=*""#,
                "k=1\nx\nk=3\n",
                "k=2\nx\n",
            ),
            (
                r#""line": "k=2", "matching": "k=*""#,
                "k=1\nx\nk=2\n",
                "x\nk=2\n",
            ),
            (r#""line": "k=2", "matching": "k=*""#, "x\nk=1", "x\nk=2"),
            (
                r#""line": "k=2", "matching": "k=*""#,
                "k=1\r\nx\r\n",
                "k=2\r\nx\r\n",
            ),
            (r#""line": "k=2", "matching": "k=*""#, "x\n", "x\nk=2\n"),
            (r#""line": "a", "state": "absent""#, "a\nb\na\n", "b\n"),
            (
                r#""matching": "?b*", "state": "absent""#,
                "abc\nb\näb\n",
                "b\n",
            ),
            (r#""matching": "*", "state": "absent""#, "a\nb", ""),
            (r#""line": "b", "state": "absent""#, "a\nb", "a\n"),
        ] {
            let edit = edit(keys);
            let once = edit.edited(before);
            assert_eq!(once, after, "{keys} {before:?}");
            assert_eq!(edit.edited(&once), once, "twice: {keys} {before:?}");
        }
    }
}

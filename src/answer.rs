//! Answers: complete JSON documents, or tables that fit the terminal, on standard output or in a file.

use std::io::Write;

use anyhow::Context;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use dormouse_block::escape_terminal;
use serde::Serialize;

use crate::cli::Format;
use crate::settings::Settings;

/// So many things, in words.
pub(crate) fn count(n: impl TryInto<u64>, thing: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}")
}

/// Writes answers as the user asked for them.
pub(crate) struct Answer<'a> {
    settings: &'a Settings,
}

impl<'a> Answer<'a> {
    /// Answers in the manner of these settings.
    #[must_use]
    pub(crate) fn new(settings: &'a Settings) -> Self {
        Self { settings }
    }

    /// Whether a table is wanted.
    #[must_use]
    pub(crate) fn is_table(&self) -> bool {
        self.settings.format() == Format::Table
    }

    /// Writes a document as JSON with a final newline.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(crate) fn json(&self, document: &impl Serialize) -> anyhow::Result<()> {
        // An inventory takes some 150 KiB, which would else be moved a dozen times while it grows.
        let mut text = Vec::with_capacity(256 << 10);
        serde_json::to_writer_pretty(&mut text, document)?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(path) = &self.settings.global.output {
            return Ok(dormouse_engine::host::publish(path, bytes)?);
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // Whoever reads has had enough: that is no failure of ours.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write the answer"),
        }
    }

    /// Writes lines of text; control characters are spelled out.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(crate) fn text(&self, text: &str) -> anyhow::Result<()> {
        let mut out = String::with_capacity(text.len().saturating_add(1));
        for line in text.lines() {
            out.push_str(&escape_terminal(line));
            out.push('\n');
        }
        self.bytes(out.as_bytes())
    }

    /// A table with these columns, as wide as the terminal at most.
    #[must_use]
    pub(crate) fn table(&self, columns: &[&str]) -> Rows {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic);
        let colored = self.settings.colored();
        if colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
            if let Some(width) = width() {
                table.set_width(width);
            }
        }
        table.set_header(columns.iter().map(|column| {
            let cell = Cell::new(column);
            if colored {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        }));
        Rows { table, colored }
    }
}

/// The terminal's width, where standard output is one; `COLUMNS` otherwise.
fn width() -> Option<u16> {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
}

/// The rows of a table.
pub(crate) struct Rows {
    table: Table,
    colored: bool,
}

impl Rows {
    /// Adds a row; verdicts and power states are coloured.
    pub(crate) fn add<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let colored = self.colored;
        self.table.add_row(cells.into_iter().map(|text| {
            let text = escape_terminal(text.as_ref()).into_owned();
            let color = match text.as_str() {
                "compliant" | "ok" | "cold" => Some(Color::Green),
                "pending" | "crashed" => Some(Color::Yellow),
                "non-compliant" | "failed" | "running" => Some(Color::Red),
                "indeterminate" | "suspended" | "hibernated" => Some(Color::Magenta),
                _ => None,
            };
            match color {
                Some(color) if colored => Cell::new(text).fg(color),
                _ => Cell::new(text),
            }
        }));
    }

    /// The table as text with a final newline; trailing blanks are left out.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for line in self.table.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

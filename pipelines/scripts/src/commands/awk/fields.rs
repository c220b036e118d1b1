//! Records, fields, and what is assigned to.

use super::program::Expression;
use super::run::{Did, Machine, refuse};
use super::value::Value;

/// Highest field that may be made.
const MAX_FIELDS: usize = 100_000;

impl Machine<'_, '_> {
    pub(super) fn split_record(&mut self) -> Did<()> {
        let separator = self.string("FS")?;
        let record = self.record.clone();
        let parts = self.split_text(&record, &separator)?;
        self.fields = parts.into_iter().map(Value::Input).collect();
        self.count_fields();
        Ok(())
    }

    pub(super) fn count_fields(&mut self) {
        let count = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        self.set("NF", Value::Number(f64::from(count)));
    }

    pub(super) fn split_text(&mut self, text: &[u8], separator: &[u8]) -> Did<Vec<Vec<u8>>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if separator == b" " {
            return Ok(text
                .split(|byte| matches!(byte, b' ' | b'\t' | b'\n'))
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect());
        }
        if let [byte] = separator
            && !b"\\".contains(byte)
        {
            return Ok(text
                .split(|other| other == byte)
                .map(<[u8]>::to_vec)
                .collect());
        }
        if separator.is_empty() {
            return refuse("splits into characters");
        }
        let regex = self.compile(separator)?;
        let mut out = Vec::new();
        let mut at = 0_usize;
        let mut from = 0_usize;
        while let Some(captures) = regex.find(text, from, &mut self.shell.files.budget)? {
            let Some(Some((begin, end))) = captures.first().copied() else {
                break;
            };
            if end == begin {
                from = end.saturating_add(1);
                if from > text.len() {
                    break;
                }
                continue;
            }
            out.push(text.get(at..begin).unwrap_or_default().to_vec());
            (at, from) = (end, end);
        }
        out.push(text.get(at..).unwrap_or_default().to_vec());
        Ok(out)
    }

    pub(super) fn rebuild(&mut self) -> Did<()> {
        let separator = self.string("OFS")?;
        let mut parts = Vec::new();
        for field in &self.fields {
            parts.push(self.text(field)?);
        }
        self.record = parts.join(separator.as_slice());
        Ok(())
    }

    pub(super) fn field(&self, index: i64) -> Did<Value> {
        match usize::try_from(index) {
            Ok(0) => Ok(Value::Input(self.record.clone())),
            Ok(index) => Ok(self
                .fields
                .get(index.saturating_sub(1))
                .cloned()
                .unwrap_or(Value::Unset)),
            Err(_) => refuse("a field has a negative number"),
        }
    }

    pub(super) fn store(&mut self, place: &Expression, value: Value) -> Did<()> {
        match place {
            Expression::Variable(name) => {
                let resize = name == b"NF";
                let count = value.integer();
                self.variables.insert(name.clone(), value);
                if resize {
                    let count = usize::try_from(count).unwrap_or(0).min(MAX_FIELDS);
                    self.fields.resize(count, Value::Input(Vec::new()));
                    self.rebuild()?;
                }
            }
            Expression::Element(name, index) => {
                let key = self.key(index)?;
                self.arrays
                    .entry(name.clone())
                    .or_default()
                    .insert(key, value);
            }
            Expression::Field(index) => {
                let index = self.evaluate(index)?.integer();
                match usize::try_from(index) {
                    Ok(0) => {
                        self.record = self.text(&value)?;
                        self.split_record()?;
                    }
                    Ok(index) if index <= MAX_FIELDS => {
                        if self.fields.len() < index {
                            self.fields.resize(index, Value::Input(Vec::new()));
                        }
                        if let Some(field) = self.fields.get_mut(index.saturating_sub(1)) {
                            *field = value;
                        }
                        self.count_fields();
                        self.rebuild()?;
                    }
                    _ => return refuse("a field's number is out of range"),
                }
            }
            _ => return refuse("assigns to what is no variable"),
        }
        Ok(())
    }
}

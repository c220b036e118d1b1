//! What expansions leave of a word, and field splitting (POSIX, 2.6.5).

/// A piece of an expanded word.
#[derive(Debug)]
pub(super) enum Segment {
    Text {
        bytes: Vec<u8>,
        /// Nothing in it is special, and it makes a field even when empty.
        quoted: bool,
        /// It is split at the characters of `IFS`.
        split: bool,
    },
    /// A field ends here: between the parameters of `$@`.
    Break,
}

/// A field whose bytes may each be quoted.
#[derive(Debug, Default, Clone)]
pub(super) struct Field(pub(super) Vec<(u8, bool)>);

impl Field {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().map(|&(byte, _)| byte).collect()
    }

    /// Whether pathname expansion applies.
    pub(super) fn is_pattern(&self) -> bool {
        self.0
            .iter()
            .any(|&(byte, quoted)| !quoted && matches!(byte, b'*' | b'?' | b'['))
    }
}

/// Joins segments into one field.
pub(super) fn join(segments: &[Segment], separator: &[u8]) -> Field {
    let mut out = Field::default();
    for segment in segments {
        match segment {
            Segment::Text { bytes, quoted, .. } => {
                out.0.extend(bytes.iter().map(|&byte| (byte, *quoted)));
            }
            Segment::Break => out.0.extend(separator.iter().map(|&byte| (byte, true))),
        }
    }
    out
}

/// Splits segments into fields.
pub(super) fn split(segments: &[Segment], ifs: &[u8]) -> Vec<Field> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n') && ifs.contains(&byte);
    let mut fields = Vec::new();
    let mut current: Option<Field> = None;
    // The last field was ended by white space, which a following delimiter belongs to.
    let mut after_space = false;
    for segment in segments {
        match segment {
            Segment::Break => {
                fields.extend(current.take());
                after_space = false;
            }
            Segment::Text {
                bytes,
                quoted,
                split: true,
            } if !quoted => {
                for &byte in bytes {
                    if is_space(byte) {
                        if let Some(field) = current.take() {
                            fields.push(field);
                            after_space = true;
                        }
                    } else if ifs.contains(&byte) {
                        match current.take() {
                            Some(field) => fields.push(field),
                            None if after_space => {}
                            None => fields.push(Field::default()),
                        }
                        after_space = false;
                    } else {
                        current.get_or_insert_default().0.push((byte, false));
                        after_space = false;
                    }
                }
            }
            Segment::Text { bytes, quoted, .. } => {
                if *quoted || !bytes.is_empty() {
                    current
                        .get_or_insert_default()
                        .0
                        .extend(bytes.iter().map(|&byte| (byte, *quoted)));
                    after_space = false;
                }
            }
        }
    }
    fields.extend(current);
    fields
}

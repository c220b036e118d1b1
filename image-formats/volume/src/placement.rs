//! Where a volume's bytes stand on the machine's disks, for whoever wants to write there.

/// A range of a disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskRange {
    /// The disk's name.
    pub disk: String,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its bytes.
    pub len: u64,
}

/// Where a volume's bytes stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// In these ranges, one after another: a byte written there is a byte of the volume, and of nothing else.
    Ranges(Vec<DiskRange>),
    /// Not simply there: copies, parity, encryption or a snapshot depend on them. Why, in one lower-case clause.
    Bound(String),
}

impl Placement {
    /// That of a whole disk.
    pub(crate) fn disk(name: &str, len: u64) -> Self {
        Self::Ranges(vec![DiskRange {
            disk: name.to_owned(),
            start: 0,
            len,
        }])
    }

    /// That of the `len` bytes from `start` on.
    pub(crate) fn part(&self, start: u64, len: u64) -> Self {
        let ranges = match self {
            Self::Ranges(ranges) => ranges,
            Self::Bound(why) => return Self::Bound(why.clone()),
        };
        let mut skip = start;
        let mut left = len;
        let mut part = Vec::new();
        for range in ranges {
            if left == 0 {
                break;
            }
            let Some(there) = range.len.checked_sub(skip) else {
                skip = skip.saturating_sub(range.len);
                continue;
            };
            let taken = there.min(left);
            if taken > 0 {
                part.push(DiskRange {
                    disk: range.disk.clone(),
                    start: range.start.saturating_add(skip),
                    len: taken,
                });
            }
            left = left.saturating_sub(taken);
            skip = 0;
        }
        Self::Ranges(part)
    }

    /// Those of several parts, one after another.
    pub(crate) fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut ranges: Vec<DiskRange> = Vec::new();
        for part in parts {
            match part {
                Self::Ranges(more) => {
                    for range in more {
                        match ranges.last_mut() {
                            Some(last)
                                if last.disk == range.disk
                                    && last.start.checked_add(last.len) == Some(range.start) =>
                            {
                                last.len = last.len.saturating_add(range.len);
                            }
                            _ => ranges.push(range),
                        }
                    }
                }
                Self::Bound(why) => return Self::Bound(why),
            }
        }
        Self::Ranges(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_joined_ranges_are_found_on_their_disks() {
        let a = Placement::disk("a", 100).part(10, 20);
        let b = Placement::disk("b", 100).part(50, 30);
        let both = Placement::join([a, b]);
        let range = |disk: &str, start, len| DiskRange {
            disk: disk.into(),
            start,
            len,
        };
        assert_eq!(
            both.part(15, 10),
            Placement::Ranges(vec![range("a", 25, 5), range("b", 50, 5)])
        );
        assert_eq!(
            both.part(20, 30),
            Placement::Ranges(vec![range("b", 50, 30)])
        );
        let whole = Placement::disk("a", 100);
        assert_eq!(
            Placement::join([whole.part(0, 40), whole.part(40, 60)]),
            whole
        );
    }
}

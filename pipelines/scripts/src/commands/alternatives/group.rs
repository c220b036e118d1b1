//! A group of alternatives and the file that keeps it.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slave {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) path: Vec<u8>,
    pub(super) priority: i32,
    /// Files by the slave's name.
    pub(super) slaves: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: Vec<u8>,
    pub(super) manual: bool,
    pub(super) link: Vec<u8>,
    pub(super) slaves: Vec<Slave>,
    pub(super) choices: Vec<Choice>,
}

/// Reads a group's file; `None` when it is broken.
pub(super) fn parse(name: &[u8], text: &[u8]) -> Option<Group> {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec);
    let manual = match lines.next()?.as_slice() {
        b"auto" => false,
        b"manual" => true,
        _ => return None,
    };
    let link = lines.next()?;
    let mut slaves = Vec::new();
    loop {
        let name = lines.next()?;
        if name.is_empty() {
            break;
        }
        slaves.push(Slave {
            name,
            link: lines.next()?,
        });
    }
    let mut choices = Vec::new();
    loop {
        let path = lines.next()?;
        if path.is_empty() {
            break;
        }
        let priority = std::str::from_utf8(&lines.next()?).ok()?.parse().ok()?;
        let mut files = BTreeMap::new();
        for slave in &slaves {
            let file = lines.next()?;
            if !file.is_empty() {
                files.insert(slave.name.clone(), file);
            }
        }
        choices.push(Choice {
            path,
            priority,
            slaves: files,
        });
    }
    Some(Group {
        name: name.to_vec(),
        manual,
        link,
        slaves,
        choices,
    })
}

impl Group {
    pub(super) fn choice(&self, path: &[u8]) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.path == path)
    }

    /// The choice of the highest priority, the first of equals.
    pub(super) fn best(&self) -> Option<&Choice> {
        let mut best: Option<&Choice> = None;
        for choice in &self.choices {
            if best.is_none_or(|best| choice.priority > best.priority) {
                best = Some(choice);
            }
        }
        best
    }

    /// Sorts slaves and choices, and drops slaves that no choice has.
    pub(super) fn tidy(&mut self) {
        self.slaves.sort();
        self.choices.sort_by(|one, two| one.path.cmp(&two.path));
        let choices = &self.choices;
        self.slaves.retain(|slave| {
            choices.iter().any(|choice| {
                choice
                    .slaves
                    .get(&slave.name)
                    .is_some_and(|file| !file.is_empty())
            })
        });
    }

    /// The group's file.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = vec![
            if self.manual {
                b"manual".to_vec()
            } else {
                b"auto".to_vec()
            },
            self.link.clone(),
        ];
        for slave in &self.slaves {
            lines.push(slave.name.clone());
            lines.push(slave.link.clone());
        }
        lines.push(Vec::new());
        for choice in &self.choices {
            lines.push(choice.path.clone());
            lines.push(choice.priority.to_string().into_bytes());
            for slave in &self.slaves {
                lines.push(choice.slaves.get(&slave.name).cloned().unwrap_or_default());
            }
        }
        lines.push(Vec::new());
        let mut text = lines.join(&b'\n');
        text.push(b'\n');
        text
    }

    /// What `--query` prints.
    pub(super) fn query(&self, current: Option<&[u8]>) -> Vec<u8> {
        let mut out = [b"Name: ", &self.name[..], b"\nLink: ", &self.link, b"\n"].concat();
        if !self.slaves.is_empty() {
            out.extend_from_slice(b"Slaves:\n");
            for slave in &self.slaves {
                out.extend_from_slice(&[b" ", &slave.name[..], b" ", &slave.link, b"\n"].concat());
            }
        }
        out.extend_from_slice(if self.manual {
            b"Status: manual\n"
        } else {
            b"Status: auto\n"
        });
        if let Some(best) = self.best() {
            out.extend_from_slice(&[b"Best: ", &best.path[..], b"\n"].concat());
        }
        out.extend_from_slice(&[b"Value: ", current.unwrap_or(b"none"), b"\n"].concat());
        for choice in &self.choices {
            out.extend_from_slice(&[b"\nAlternative: ", &choice.path[..], b"\n"].concat());
            out.extend_from_slice(format!("Priority: {}\n", choice.priority).as_bytes());
            if !self.slaves.is_empty() {
                out.extend_from_slice(b"Slaves:\n");
                for slave in &self.slaves {
                    if let Some(file) = choice.slaves.get(&slave.name) {
                        out.extend_from_slice(&[b" ", &slave.name[..], b" ", file, b"\n"].concat());
                    }
                }
            }
        }
        out
    }

    /// What `--display` prints.
    pub(super) fn display(&self, current: Option<&[u8]>) -> Vec<u8> {
        let mode: &[u8] = if self.manual {
            b" - manual mode\n"
        } else {
            b" - auto mode\n"
        };
        let mut out = [&self.name[..], mode].concat();
        match self.best() {
            Some(best) => {
                out.extend_from_slice(
                    &[b"  link best version is ", &best.path[..], b"\n"].concat(),
                );
            }
            None => out.extend_from_slice(b"  link best version not available\n"),
        }
        match current {
            Some(current) => {
                out.extend_from_slice(&[b"  link currently points to ", current, b"\n"].concat());
            }
            None => out.extend_from_slice(b"  link currently absent\n"),
        }
        out.extend_from_slice(&[b"  link ", &self.name[..], b" is ", &self.link, b"\n"].concat());
        for slave in &self.slaves {
            out.extend_from_slice(
                &[b"  slave ", &slave.name[..], b" is ", &slave.link, b"\n"].concat(),
            );
        }
        for choice in &self.choices {
            out.extend_from_slice(&choice.path);
            out.extend_from_slice(format!(" - priority {}\n", choice.priority).as_bytes());
            for slave in &self.slaves {
                if let Some(file) = choice.slaves.get(&slave.name) {
                    out.extend_from_slice(
                        &[b"  slave ", &slave.name[..], b": ", file, b"\n"].concat(),
                    );
                }
            }
        }
        out
    }
}

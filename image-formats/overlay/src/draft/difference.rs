//! What a draft has that its base has not, and the other way round.

use std::collections::{BTreeMap, HashMap};

use dormouse_block::{Error, GuestPath, Result};

use super::{Draft, DraftNode, Entry, MAX_CHANGES};
use crate::Attributes;

/// One difference between the base and the draft, at a path free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// What the base has there is gone.
    Removed,
    /// The base's node is still there with these attributes.
    Attributes(Attributes),
    /// A node that the base does not have there.
    Put {
        /// The node.
        node: DraftNode,
        /// Its attributes.
        attributes: Attributes,
        /// The earlier path in this list that is the same node under another name.
        link_to: Option<GuestPath>,
    },
}

impl Draft {
    /// Every difference from the base by path, parents before what they hold. What vanishes with a removed directory is
    /// listed too, after it.
    ///
    /// # Errors
    /// A broken base.
    pub fn differences(&self) -> Result<BTreeMap<GuestPath, Difference>> {
        let mut out = BTreeMap::new();
        let mut first_names: HashMap<usize, GuestPath> = HashMap::new();
        let mut paths: Vec<_> = self.entries.keys().collect();
        paths.sort();
        for path in paths {
            let base = self.in_base(path)?;
            match self.entries.get(path) {
                None => {}
                Some(Entry::Absent) => {
                    if let Some(base) = base {
                        out.insert(path.clone(), Difference::Removed);
                        if base.node == DraftNode::Directory {
                            self.removed_below(path, &mut out)?;
                        }
                    }
                }
                Some(Entry::Node(index)) => {
                    let Some(node) = self.nodes.get(*index) else {
                        continue;
                    };
                    if let Some(base) = &base
                        && node.origin.as_ref() == Some(path)
                        && node.node == base.node
                    {
                        if node.attributes != base.attributes {
                            out.insert(
                                path.clone(),
                                Difference::Attributes(node.attributes.clone()),
                            );
                        }
                        first_names.entry(*index).or_insert_with(|| path.clone());
                        continue;
                    }
                    if base.is_some_and(|base| base.node == DraftNode::Directory)
                        && (node.opaque || node.node != DraftNode::Directory)
                    {
                        self.removed_below(path, &mut out)?;
                    }
                    let link_to = first_names.get(index).cloned();
                    first_names.entry(*index).or_insert_with(|| path.clone());
                    out.insert(
                        path.clone(),
                        Difference::Put {
                            node: node.node.clone(),
                            attributes: node.attributes.clone(),
                            link_to,
                        },
                    );
                }
            }
        }
        Ok(out)
    }

    fn removed_below(
        &self,
        path: &GuestPath,
        out: &mut BTreeMap<GuestPath, Difference>,
    ) -> Result<()> {
        let mut todo = vec![path.clone()];
        while let Some(directory) = todo.pop() {
            for entry in self.base.read_dir(&directory)?.unwrap_or_default() {
                let child = directory
                    .join(&entry.name)
                    .map_err(|error| Error::corrupt("bad name in a directory").because(error))?;
                if out.len() >= MAX_CHANGES {
                    return Err(Error::limit("more than 4,000,000 changes in one draft"));
                }
                if self
                    .in_base(&child)?
                    .is_some_and(|node| node.node == DraftNode::Directory)
                {
                    todo.push(child.clone());
                }
                if !self.entries.contains_key(&child) {
                    out.insert(child, Difference::Removed);
                }
            }
        }
        Ok(())
    }
}

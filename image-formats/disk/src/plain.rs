//! An image that has one restore point: the state that the machine would start from.

use std::sync::Arc;

use dormouse_block::{Result, Source};

use crate::image::no_point;
use crate::{ACTIVE, Chain, FormatName, Image, PointInfo, State};

/// An image without snapshots inside.
pub(crate) struct Plain {
    format: FormatName,
    chain: Chain,
    state: State,
    identifier: Option<String>,
    source: Arc<dyn Source>,
    points: [PointInfo; 1],
}

impl Plain {
    /// The disk `source`, made of the files of `chain`.
    pub(crate) fn new(format: FormatName, chain: Chain, source: Arc<dyn Source>) -> Self {
        Self {
            format,
            chain,
            state: State::default(),
            identifier: None,
            points: [PointInfo::active(source.len())],
            source,
        }
    }

    /// The same, in this condition.
    pub(crate) fn state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// The same, known to layers above by this.
    pub(crate) fn identifier(mut self, identifier: String) -> Self {
        self.identifier = Some(identifier);
        self
    }
}

impl Image for Plain {
    fn format(&self) -> FormatName {
        self.format
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn virtual_size(&self) -> u64 {
        self.source.len()
    }

    fn state(&self) -> State {
        self.state
    }

    fn identifier(&self) -> Option<&str> {
        self.identifier.as_deref()
    }

    fn points(&self) -> &[PointInfo] {
        &self.points
    }

    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>> {
        if id == ACTIVE {
            return Ok(self.source.clone());
        }
        Err(no_point(id, &self.points))
    }

    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>> {
        self.open_point(id).map(|_| None)
    }
}

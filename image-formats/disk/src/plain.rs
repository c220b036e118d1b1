//! An image that has one restore point: the state that the machine would start from.

use std::sync::Arc;

use dormouse_block::{Result, Source};

use crate::encryption::Sealed;
use crate::image::no_point;
use crate::{ACTIVE, Chain, FormatName, Image, PointInfo, State};

/// An image without snapshots inside.
pub(crate) struct Plain {
    format: FormatName,
    chain: Chain,
    state: State,
    identifier: Option<String>,
    source: Sealed<Arc<dyn Source>>,
    points: [PointInfo; 1],
}

impl Plain {
    /// The disk `source`, made of the files of `chain`.
    pub(crate) fn new(format: FormatName, chain: Chain, source: Arc<dyn Source>) -> Self {
        let size = source.len();
        Self::sealed(format, chain, size, Sealed::from(source))
    }

    /// The disk of `size` bytes that takes a key to open.
    pub(crate) fn sealed(
        format: FormatName,
        chain: Chain,
        size: u64,
        source: Sealed<Arc<dyn Source>>,
    ) -> Self {
        Self {
            format,
            chain,
            state: State::default(),
            identifier: None,
            points: [PointInfo::active(size)],
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
        let [active] = &self.points;
        active.disk_size
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
            return self.source.open();
        }
        Err(no_point(id, &self.points))
    }

    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>> {
        self.open_point(id).map(|_| None)
    }
}

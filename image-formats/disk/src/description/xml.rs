//! XML within bounds: no document type, so that no entity is anybody's own, and a limit on nodes.

use dormouse_block::{Error, Result};
use roxmltree::{Document, Node, ParsingOptions};

/// Elements, attributes and texts of one document: a VirtualBox machine with 250 snapshots has some 40,000.
const MAX_NODES: u32 = 200_000;

/// Parses `text`.
///
/// # Errors
/// `Corrupt` when it is no XML, `Unsupported` when it declares a document type, `Limit` when it has too many nodes.
pub(crate) fn parse(text: &str) -> Result<Document<'_>> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => {
            Error::unsupported("it declares a document type, which no description needs")
        }
        roxmltree::Error::NodesLimitReached => {
            Error::limit(format!("it has more than {MAX_NODES} nodes"))
        }
        error => Error::corrupt(format!("no XML: {error}")),
    })
}

/// The first child called `name`, whatever its namespace.
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    children(node, name).next()
}

/// The children called `name`, whatever their namespace.
pub(crate) fn children<'a, 'i, 'n>(
    node: Node<'a, 'i>,
    name: &'n str,
) -> impl Iterator<Item = Node<'a, 'i>> + use<'a, 'i, 'n> {
    node.children()
        .filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The attribute called `name`, whatever its namespace.
pub(crate) fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes()
        .find(|attribute| attribute.name() == name)
        .map(|attribute| attribute.value())
}

/// The text of the child called `name`, without blanks around it.
pub(crate) fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}

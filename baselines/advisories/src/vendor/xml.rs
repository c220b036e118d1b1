//! XML as a stream of events, each with its place.

use std::io::BufRead;

use dormouse_block::{Error, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Bytes of one text: descriptions have a few KiB.
const MAX_TEXT: usize = 1 << 20;
/// Elements one in another.
const MAX_DEPTH: usize = 200;

/// What was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// An element begins.
    Start(Element),
    /// An element ends, of this name.
    End(String),
    /// Text between.
    Text(String),
}

/// An element's name, without its prefix, and its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    /// An attribute; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A stream of nodes.
pub(super) struct Nodes<'a> {
    reader: Reader<&'a mut dyn BufRead>,
    buf: Vec<u8>,
    /// An element that ends where it begins is two nodes.
    pending: Option<String>,
    depth: usize,
    /// Bytes of text since the last element.
    text: usize,
}

impl<'a> Nodes<'a> {
    pub(super) fn of(input: &'a mut dyn BufRead) -> Self {
        Self {
            reader: Reader::from_reader(input),
            buf: Vec::new(),
            pending: None,
            depth: 0,
            text: 0,
        }
    }

    /// An error here.
    pub(super) fn bad(&self, what: impl Into<String>) -> Error {
        Error::corrupt(what.into()).at_offset(self.reader.buffer_position())
    }

    /// The next node; `None` at the end of the document.
    pub(super) fn next(&mut self) -> Result<Option<Node>> {
        if let Some(name) = self.pending.take() {
            self.depth = self.depth.saturating_sub(1);
            return Ok(Some(Node::End(name)));
        }
        loop {
            self.buf.clear();
            let at = self.reader.buffer_position();
            let broken = |error: quick_xml::Error| match error {
                quick_xml::Error::Io(error) => {
                    Error::io("cannot read the feed", std::io::Error::other(error))
                }
                error => Error::corrupt("the feed does not read")
                    .at_offset(at)
                    .because(error),
            };
            let event = self.reader.read_event_into(&mut self.buf).map_err(broken)?;
            match event {
                Event::Start(start) => {
                    let element =
                        element(&start).map_err(|what| Error::corrupt(what).at_offset(at))?;
                    self.depth = self.depth.saturating_add(1);
                    self.text = 0;
                    if self.depth > MAX_DEPTH {
                        return Err(Error::limit("elements more than 200 deep").at_offset(at));
                    }
                    return Ok(Some(Node::Start(element)));
                }
                Event::Empty(start) => {
                    let element =
                        element(&start).map_err(|what| Error::corrupt(what).at_offset(at))?;
                    self.depth = self.depth.saturating_add(1);
                    self.text = 0;
                    self.pending = Some(element.name.clone());
                    return Ok(Some(Node::Start(element)));
                }
                Event::End(end) => {
                    self.depth = self.depth.saturating_sub(1);
                    self.text = 0;
                    let name = end.local_name().as_ref().to_owned();
                    return Ok(Some(Node::End(name)));
                }
                Event::Text(text) => {
                    let text = (*text).to_owned();
                    self.add(text.len(), at)?;
                    return Ok(Some(Node::Text(text)));
                }
                Event::CData(data) => {
                    let text = (*data).to_owned();
                    self.add(text.len(), at)?;
                    return Ok(Some(Node::Text(text)));
                }
                Event::GeneralRef(reference) => {
                    let name = (*reference).to_owned();
                    let text = entity(&name).ok_or_else(|| {
                        Error::corrupt(format!("the entity {name:?}, which is none of XML's own"))
                            .at_offset(at)
                    })?;
                    self.add(text.len(), at)?;
                    return Ok(Some(Node::Text(text)));
                }
                Event::Eof if self.depth > 0 => {
                    return Err(Error::corrupt("the feed ends in an element").at_offset(at));
                }
                Event::Eof => return Ok(None),
                Event::DocType(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn add(&mut self, bytes: usize, at: u64) -> Result<()> {
        self.text = self.text.saturating_add(bytes);
        if self.text > MAX_TEXT {
            return Err(Error::limit("a text of more than 1 MiB").at_offset(at));
        }
        Ok(())
    }

    /// The text of the element that has just begun, to its end, without what elements in it have.
    pub(super) fn text(&mut self) -> Result<String> {
        let mut out = String::new();
        let mut depth = 0_usize;
        while let Some(node) = self.next()? {
            match node {
                Node::Start(_) => depth = depth.saturating_add(1),
                Node::End(_) if depth == 0 => return Ok(out.trim().to_owned()),
                Node::End(_) => depth = depth.saturating_sub(1),
                Node::Text(text) if depth == 0 => {
                    if out.len().saturating_add(text.len()) > MAX_TEXT {
                        return Err(Error::limit("a text of more than 1 MiB"));
                    }
                    out.push_str(&text);
                }
                Node::Text(_) => {}
            }
        }
        Err(self.bad("the feed ends in an element"))
    }
}

/// The five entities that XML itself has, and characters by number.
fn entity(name: &str) -> Option<String> {
    if let Some(number) = name.strip_prefix('#') {
        let number = match number.strip_prefix('x') {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(number).map(String::from);
    }
    let text = match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => return None,
    };
    Some(text.to_owned())
}

fn element(start: &BytesStart<'_>) -> std::result::Result<Element, String> {
    let name = start.local_name().as_ref().to_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| format!("an attribute of {name}: {error}"))?;
        let key = attribute.key.local_name().as_ref().to_owned();
        attributes.push((key, unescaped(&attribute.value)?));
    }
    Ok(Element { name, attributes })
}

fn unescaped(text: &str) -> std::result::Result<String, String> {
    if !text.contains('&') {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, after) = after
            .split_once(';')
            .ok_or_else(|| format!("an entity without its end in {text:?}"))?;
        out.push_str(&entity(name).ok_or_else(|| format!("the entity {name:?}"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

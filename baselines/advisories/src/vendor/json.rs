//! JSON as streams: one element in memory at a time, errors with their line, column and key.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use dormouse_block::{Error, Result};
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

/// Bytes of one document that is read whole. Red Hat's largest VEX has 60 MB.
const MAX_DOCUMENT: u64 = 256 << 20;

/// What an error of the reader means.
pub(super) fn bad(error: serde_json::Error) -> Error {
    if error.is_io() {
        return Error::io("cannot read the feed", std::io::Error::other(error));
    }
    Error::corrupt("the feed does not read").because(error)
}

/// Reads one document whole, without what its type does not name.
pub(super) fn document<T: DeserializeOwned>(input: &mut dyn Read) -> Result<T> {
    let mut left = input.take(MAX_DOCUMENT.saturating_add(1));
    let mut reader = serde_json::Deserializer::from_reader(&mut left);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = bad(error.into_inner());
        if path == "." {
            error
        } else {
            Error::new(
                error.kind(),
                format!("the feed does not read at the key {path}"),
            )
            .because(error)
        }
    });
    let ended = match &read {
        Ok(_) => reader.end().map_err(bad),
        Err(_) => Ok(()),
    };
    drop(reader);
    if left.limit() == 0 {
        return Err(Error::limit("a document of more than 256 MiB"));
    }
    ended?;
    read
}

/// Calls `take` with each element of the array that the text is, or of the arrays under `keys` of the object that it is. Every
/// other text of the object goes to `note`.
pub(super) fn elements<T: DeserializeOwned>(
    input: &mut dyn Read,
    keys: &[&str],
    note: &mut dyn FnMut(&str, &str),
    take: &mut dyn FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut reader = serde_json::Deserializer::from_reader(input);
    let outer = Outer {
        keys,
        note,
        take,
        of: PhantomData,
    };
    outer.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)
}

struct Outer<'a, T> {
    keys: &'a [&'a str],
    note: &'a mut dyn FnMut(&str, &str),
    take: &'a mut dyn FnMut(T) -> Result<()>,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Outer<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A text; anything else is passed over as it streams.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Outer<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys.first() {
            Some(key) => write!(f, "an object with {key}"),
            None => f.write_str("an array"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.keys.is_empty() {
            return Err(A::Error::custom("an object where an array is expected"));
        }
        while let Some(key) = map.next_key::<String>()? {
            if self.keys.contains(&key.as_str()) {
                map.next_value_seed(Inner {
                    key: &key,
                    take: &mut *self.take,
                    of: PhantomData,
                })?;
            } else if let Text(Some(text)) = map.next_value()? {
                (self.note)(&key, &text);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        let inner = Inner {
            key: "",
            take: self.take,
            of: PhantomData,
        };
        inner.visit_seq(list)
    }
}

struct Inner<'a, T> {
    key: &'a str,
    take: &'a mut dyn FnMut(T) -> Result<()>,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Inner<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Inner<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {}", self.key)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(one) = list.next_element()? {
            (self.take)(one).map_err(|error| A::Error::custom(error.with_causes()))?;
        }
        Ok(())
    }

    /// Alpine writes an object where a file has nothing to say.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_key::<String>()? {
            None => Ok(()),
            Some(key) => Err(A::Error::custom(format!(
                "the key {} is an object with {key:?} and no array",
                self.key
            ))),
        }
    }
}

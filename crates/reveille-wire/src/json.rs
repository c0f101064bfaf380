//! JSON as a body must be: UTF-8, one object, not too deep; objects where objects are meant.

use reveille_domain::Refusal;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// How deep a body may be nested; the calls' own bodies need four levels.
const DEPTH_MAX: usize = 32;

/// Reads a body.
///
/// # Errors
/// `Malformed`, with what is wrong and where.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    let malformed = |detail: String| Refusal::Malformed { detail };
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(format!("not UTF-8: {error}")))?;
    if !text.trim_start().starts_with('{') {
        return Err(malformed("it is no JSON object".into()));
    }
    if depth(text) > DEPTH_MAX {
        return Err(malformed(format!("it is nested more than {DEPTH_MAX} levels deep")));
    }
    serde_json::from_str(text).map_err(|error| malformed(error.to_string()))
}

/// Reads a body whose texts are kept as they stand: none may have U+0000 in it, which not every store keeps.
///
/// # Errors
/// Likewise.
pub fn decode_to_keep<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    if bytes.windows(ESCAPED_ZERO.len()).any(|part| part == ESCAPED_ZERO) {
        return Err(Refusal::Malformed { detail: "a text has the character U+0000 in it".into() });
    }
    decode(bytes)
}

/// How U+0000 is written in JSON, which takes it in no other way.
const ESCAPED_ZERO: &[u8] = b"\\u0000";

/// How deep brackets are nested outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A value that is written as an object: a list of its members in order is refused.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Object<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Any {
        #[serde(default)]
        a: Option<u8>,
    }

    #[test]
    fn only_an_object_in_utf_8_that_is_not_too_deep_is_read() {
        assert_eq!(decode::<Any>(b" {\"a\":1,\"b\":\"[[\\\"[\"}").unwrap().a, Some(1));
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in [&b"[1]"[..], b"7", b"", b"{\"x\":\"\xff\"}", b"{\"a\":1", deep.as_bytes()] {
            assert!(matches!(decode::<Any>(bad), Err(Refusal::Malformed { .. })));
        }
        assert!(decode::<Any>(b"{\"x\":\"\\u0000\"}").is_ok());
        assert!(decode_to_keep::<Any>(b"{\"x\":\"\\u0000\"}").is_err());
    }
}

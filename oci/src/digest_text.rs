//! Digest text: `algorithm:hex`, as documents and requests write a digest.
//!
//! Parsed at every boundary, trusted inside.
//!
//! # Sources
//! image-spec "digests".

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::{Algorithm, Digest},
    error::Error,
};

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason| Error::ParseDigest { text: text.chars().take(200).collect(), reason };
        let (name, digits) = text.split_once(':').ok_or_else(|| fail("no algorithm before a colon"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(fail("the algorithm must be sha256 or sha512")),
        };
        if digits.len() != algorithm.size() * 2 {
            return Err(fail("wrong number of digits"));
        }
        if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(fail("digits must be lower-case hexadecimal"));
        }
        Self::from_hex(algorithm, digits).ok_or_else(|| fail("not hexadecimal"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

//! Digest: the name of a blob by its content.
//!
//! sha256 is what everyone writes; sha512 is read. `digest_text` parses it, `verify` compares bytes with it.
//!
//! # Sources
//! image-spec "digests".

use std::{fmt, io};

use sha2::{Digest as _, Sha256, Sha512};

/// A hash function that a digest may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 32 bytes; what everyone uses.
    Sha256,
    /// 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name in a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The hash's length in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// A new computation.
    pub fn digester(self) -> Digester {
        match self {
            Self::Sha256 => Digester { state: State::Sha256(Sha256::new()), size: 0 },
            Self::Sha512 => Digester { state: State::Sha512(Box::new(Sha512::new())), size: 0 },
        }
    }
}

/// An algorithm and the hash it gave, inline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

impl Digest {
    /// The sha256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(Sha256::digest(bytes).into())
    }

    /// A sha256 that was computed elsewhere.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&hash);
        Self { algorithm: Algorithm::Sha256, bytes }
    }

    /// A hash that was written in hexadecimal digits, as many as the algorithm gives; None if it was not.
    pub(crate) fn from_hex(algorithm: Algorithm, digits: &str) -> Option<Self> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits, &mut bytes[..algorithm.size()]).ok()?;
        Some(Self { algorithm, bytes })
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    /// The hash in lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

/// A hash being computed, and the number of bytes so far.
#[derive(Clone, Debug)]
pub struct Digester {
    state: State,
    size: u64,
}

impl Digester {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.size += bytes.len() as u64;
    }

    /// How many bytes were taken.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of what was taken so far.
    pub fn finish(self) -> Digest {
        match self.state {
            State::Sha256(state) => Digest::from_sha256(state.finalize().into()),
            State::Sha512(state) => Digest { algorithm: Algorithm::Sha512, bytes: state.finalize().into() },
        }
    }
}

impl Default for Digester {
    fn default() -> Self {
        Algorithm::Sha256.digester()
    }
}

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

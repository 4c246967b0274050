//! Cache keys: the algebra of design cache-model.md in a canonical encoding.
//!
//! Every hash is over a domain tag and length-prefixed parts, so that no two different lists of parts give equal bytes.

use buildd_oci::digest::{Digest, Digester};

fn hash(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut digester = Digester::default();
    for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        digester.update(&(part.len() as u64).to_le_bytes());
        digester.update(part);
    }
    digester.finish()
}

/// The key of a source, by its pin.
pub fn source(pin: &Digest, output: u32) -> Digest {
    hash("source", &[pin.as_bytes(), &output.to_le_bytes()])
}

/// `x_i` of a content input: only what is read counts, not how it is named.
pub fn content(digest: &Digest) -> Digest {
    hash("content", &[digest.as_bytes()])
}

/// `exec(v)`: what runs once for all outputs.
pub fn exec(op: &Digest, inputs: &[Digest]) -> Digest {
    let parts: Vec<&[u8]> = std::iter::once(op).chain(inputs).map(Digest::as_bytes).collect();
    hash("exec", &parts)
}

/// `key(v, o)`.
pub fn output(exec: &Digest, output: u32) -> Digest {
    hash("output", &[exec.as_bytes(), &output.to_le_bytes()])
}

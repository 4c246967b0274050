//! Mode: what `--chmod` does to permission bits, in numbers or in words.
//!
//! # Sources
//! mode(1) grammar: `[ugoa]*[-+=][rwxXst]*`, parted by commas.

use crate::error::{Error, Result};

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chmod {
    /// None.
    Keep,
    /// These bits.
    Set(u32),
    /// One after another.
    Words(Vec<Word>),
}

/// One symbolic change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    who: u32,
    sign: char,
    letters: String,
}

impl Chmod {
    /// The bits `mode` unless it is negative, or the words `text`.
    pub(super) fn parse(mode: i32, text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(u32::try_from(mode).map_or(Self::Keep, |mode| Self::Set(mode & 0o7777)));
        }
        if let Ok(bits) = u32::from_str_radix(text, 8) {
            return Ok(Self::Set(bits & 0o7777));
        }
        text.split(',').map(word).collect::<Option<Vec<_>>>().map(Self::Words).ok_or_else(|| Error::Invalid {
            what: "chmod",
            name: text.to_owned(),
            reason: "write it as 0755 or as u=rwX,go=rX".to_owned(),
        })
    }

    /// The bits of a file or folder that had `mode`.
    pub(super) fn apply(&self, mode: u32, folder: bool) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Set(bits) => *bits,
            Self::Words(words) => words.iter().fold(mode, |mode, word| word.apply(mode, folder)),
        }
    }
}

fn word(text: &str) -> Option<Word> {
    let sign_at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..sign_at].chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let who = if who == 0 { 0o7777 } else { who };
    let (sign, letters) = text[sign_at..].split_at(1);
    letters.chars().all(|l| "rwxXst".contains(l)).then(|| Word {
        who,
        sign: sign.chars().next().unwrap_or('='),
        letters: letters.to_owned(),
    })
}

impl Word {
    fn apply(&self, mode: u32, folder: bool) -> u32 {
        let mut bits = 0;
        for letter in self.letters.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if folder || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.sign {
            '+' => mode | bits,
            '-' => mode & !bits,
            // Setuid and setgid of a folder stay unless they are named.
            _ => (mode & !(self.who & 0o777)) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chmod;

    #[test]
    fn bits_follow_the_words() {
        for (text, mode, folder, expected) in [
            ("0755", 0o600, false, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("u+s", 0o755, false, 0o4755),
            ("a=r", 0o777, false, 0o444),
            ("o+t", 0o777, true, 0o1777),
        ] {
            let chmod = Chmod::parse(-1, text).expect(text);
            assert_eq!(chmod.apply(mode, folder), expected, "{text} on {mode:o}");
        }
        for text in ["rwx", "u~r", "q=r", "u=z"] {
            assert!(Chmod::parse(-1, text).is_err(), "{text}");
        }
        assert_eq!(Chmod::parse(-1, "").expect("nothing").apply(0o640, false), 0o640);
    }
}

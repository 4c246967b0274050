//! Patterns of `${name#pattern}` and `${name/pattern/text}`: `*`, `?`, and `\` before `*`, `?`, `\`, `/` or `}`.
//!
//! Positions are simulated as a set, so that no pattern takes more than text times pattern steps for one start.

use crate::error::Fault;

/// Steps one substitution may take: text length times pattern length, for each start.
const MAX_STEPS: usize = 50_000_000;

enum Token {
    Char(char),
    One,
    Many,
}

struct Pattern {
    tokens: Vec<Token>,
    steps: usize,
}

/// `value` without the shortest or longest matching start.
pub(super) fn trim_prefix(value: &str, pattern: &str, greedy: bool) -> Result<String, Fault> {
    let text: Vec<char> = value.chars().collect();
    let ends = Pattern::new(pattern, false)?.ends(&text)?;
    let end = if greedy { ends.last() } else { ends.first() };
    Ok(text[end.copied().unwrap_or(0)..].iter().collect())
}

/// `value` without the shortest or longest matching end.
pub(super) fn trim_suffix(value: &str, pattern: &str, greedy: bool) -> Result<String, Fault> {
    let text: Vec<char> = value.chars().rev().collect();
    let ends = Pattern::new(pattern, true)?.ends(&text)?;
    let end = if greedy { ends.last() } else { ends.first() };
    Ok(text[end.copied().unwrap_or(0)..].iter().rev().collect())
}

/// `value` with the first match, or all of them, replaced.
pub(super) fn replace(value: &str, pattern: &str, with: &str, all: bool) -> Result<String, Fault> {
    let text: Vec<char> = value.chars().collect();
    let with = unescape(with);
    let mut pattern = Pattern::new(pattern, false)?;
    if text.is_empty() && !pattern.tokens.is_empty() && !pattern.ends(&text)?.is_empty() {
        return Ok(with);
    }
    let (mut out, mut at) = (String::new(), 0);
    while at < text.len() {
        match pattern.ends(&text[at..])?.last() {
            Some(&length) if length > 0 => {
                out.push_str(&with);
                at += length;
                if !all {
                    break;
                }
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out.extend(&text[at..]);
    Ok(out)
}

fn unescape(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some('/' | '}' | '\\') if c == '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

impl Pattern {
    fn new(text: &str, reverse: bool) -> Result<Self, Fault> {
        let (mut tokens, mut chars) = (Vec::new(), text.chars());
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Token::Char(c),
                    Some(c) => return Err(Fault::new(format!("invalid escape '\\{c}' in pattern"))),
                    None => return Err(Fault::new("pattern ends with an escape")),
                },
                c => Token::Char(c),
            });
        }
        if reverse {
            tokens.reverse();
        }
        Ok(Self { tokens, steps: 0 })
    }

    /// All lengths of matches at the start of `text`, ascending.
    fn ends(&mut self, text: &[char]) -> Result<Vec<usize>, Fault> {
        let mut at = vec![0];
        for token in &self.tokens {
            self.steps = self.steps.saturating_add(match token {
                Token::Many => text.len() + 1,
                _ => at.len() + 1,
            });
            if self.steps > MAX_STEPS {
                return Err(Fault::new("pattern takes too long to match"));
            }
            at = match token {
                Token::Many => at.first().map(|&first| (first..=text.len()).collect()).unwrap_or_default(),
                Token::One => at.into_iter().filter(|&i| i < text.len()).map(|i| i + 1).collect(),
                Token::Char(c) => at.into_iter().filter(|&i| text.get(i) == Some(c)).map(|i| i + 1).collect(),
            };
            if at.is_empty() {
                break;
            }
        }
        Ok(at)
    }
}

//! Challenge: what the WWW-Authenticate lines of a 401 ask for.
//!
//! `Authorizer` parses the lines of a refused request and answers the best challenge that it can.
//!
//! # Wire
//! ```text
//! WWW-Authenticate: Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull", Basic realm="x"
//! ```
//! Several challenges may stand in one line, several lines in one answer. A comma ends a parameter or a challenge: what follows tells.
//!
//! # Invariants
//! A line that stops making sense is dropped from there on; what stood before counts. Never panics, and takes time linear in the line.
//!
//! # Sources
//! RFC 9110 section 11; spec registries.md rule 68.

/// Most bytes of a line, lines of an answer, and challenges and parameters: more is an attack on our time.
const LINE_BYTES: usize = 16 << 10;
const LINES: usize = 16;
const CHALLENGES: usize = 16;
const PARAMETERS: usize = 32;

/// One way to prove who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// `bearer`, `basic`, ...; lower case.
    pub(super) scheme: String,
    /// Names in lower case, and values.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value of a parameter, if it is there and not empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The challenges of all lines, in order.
pub(super) fn parse(lines: &[String]) -> Result<Vec<Challenge>, &'static str> {
    if lines.len() > LINES || lines.iter().any(|line| line.len() > LINE_BYTES) {
        return Err("its challenge is too long");
    }
    let mut challenges = Vec::new();
    for line in lines {
        Line { rest: line }.challenges(&mut challenges);
    }
    if challenges.len() > CHALLENGES {
        return Err("it sends too many challenges");
    }
    Ok(challenges)
}

/// What is left of a line.
struct Line<'l> {
    rest: &'l str,
}

impl<'l> Line<'l> {
    fn challenges(&mut self, found: &mut Vec<Challenge>) {
        while found.len() <= CHALLENGES {
            self.skip(|c| c == ',' || is_space(c));
            let Some(scheme) = self.token() else { return };
            let mut challenge = Challenge { scheme: scheme.to_ascii_lowercase(), parameters: Vec::new() };
            let whole = self.parameters(&mut challenge.parameters);
            if challenge.parameters.len() > PARAMETERS || whole.is_none() {
                return;
            }
            found.push(challenge);
        }
    }

    /// The parameters of one challenge; `None` if the line makes no sense.
    fn parameters(&mut self, parameters: &mut Vec<(String, String)>) -> Option<()> {
        while parameters.len() <= PARAMETERS {
            self.skip(is_space);
            let before = self.rest;
            self.skip(|c| c == ',' || is_space(c));
            if self.rest.is_empty() {
                return Some(());
            }
            let name = self.token()?;
            self.skip(is_space);
            let Some(after) = self.rest.strip_prefix('=') else {
                // Without a comma before it, it is a lone word of this challenge (`Negotiate abc`); after one, the next scheme.
                if before.starts_with(',') {
                    self.rest = before;
                    return Some(());
                }
                continue;
            };
            self.rest = after;
            // Padding of a lone word (`Negotiate abc==`).
            if self.rest.starts_with('=') || self.rest.is_empty() {
                self.skip(|c| c == '=');
                continue;
            }
            self.skip(is_space);
            let value = if self.rest.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
            parameters.push((name.to_ascii_lowercase(), value));
        }
        Some(())
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(what);
    }

    fn token(&mut self) -> Option<&'l str> {
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' => text.push(characters.next()?.1),
                c => text.push(c),
            }
        }
        None
    }
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Letters of words, and what servers leave unquoted: URLs and scopes.
fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | ',' | '=' | '\\')
}

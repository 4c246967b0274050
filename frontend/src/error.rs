//! Error: why a text cannot be built, and where in it.
//!
//! Every [`Fault`] of a Dockerfile carries line ranges; [`Error::location`] gives clients the text with the ranges, so that they print the
//! excerpt.

use buildd_api::error_detail::{Position, Range, Source, SourceText};
use buildd_oci::ErrorKind;

use crate::bridge::BridgeError;

/// A frontend could not make LLB of a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile itself is at fault.
    #[error("{fault}")]
    Dockerfile {
        /// What is wrong.
        fault: Fault,
        /// The text and the places in it.
        location: Box<Source>,
    },
    /// An option of the client is at fault.
    #[error("invalid option {option}: {reason}")]
    Option {
        /// Its key.
        option: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// Something that clients may ask of a frontend, and this one lacks.
    #[error("unsupported frontend capability {name}")]
    Capability {
        /// Its name.
        name: String,
    },
    /// A question that this frontend does not answer.
    #[error("unsupported request {name}")]
    Subrequest {
        /// Its name.
        name: String,
    },
    /// The Dockerfile or the ignore file cannot be read.
    #[error("failed to read {what}")]
    Read {
        /// Its name.
        what: String,
        /// Why.
        #[source]
        source: BridgeError,
    },
    /// The text is another frontend's, and that one failed.
    #[error("frontend {image}")]
    Frontend {
        /// The image that the text names.
        image: String,
        /// Why.
        #[source]
        source: BridgeError,
    },
    /// An image named in the Dockerfile cannot be used.
    #[error("{image}: failed to resolve source metadata")]
    ResolveImage {
        /// Its name.
        image: String,
        /// Why.
        #[source]
        source: BridgeError,
        /// The text and the place of the name.
        location: Box<Source>,
    },
}

/// One thing that is wrong in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub lines: Vec<Lines>,
    /// What a user can do about it, if the message does not say it.
    pub hint: Option<String>,
}

/// Faults of one text that are told at once: stops a text that is nothing but faults.
const MAX_FAULTS: usize = 20;

/// Lines of a text, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Fault {
    /// A fault whose place is not known yet; see [`Fault::at`].
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), lines: Vec::new(), hint: None }
    }

    /// The same fault at `lines`, unless it knows better.
    #[must_use]
    pub fn at(mut self, lines: Lines) -> Self {
        if self.lines.is_empty() {
            self.lines.push(lines);
        }
        self
    }

    /// The same fault, as one of the grammar: its message names the line.
    #[must_use]
    pub fn while_parsing(self, lines: Lines) -> Self {
        let mut fault = self.at(lines);
        let line = fault.lines.first().map_or(0, |l| l.first);
        fault.message = format!("dockerfile parse error on line {line}: {}", fault.message);
        fault
    }

    /// Several faults as one, a line of the message for each.
    pub(crate) fn join(faults: Vec<Self>) -> Self {
        let hidden = faults.len().saturating_sub(MAX_FAULTS);
        let (mut lines, mut messages, mut hint) = (Vec::new(), Vec::new(), None);
        for fault in faults.into_iter().take(MAX_FAULTS) {
            lines.extend(fault.lines);
            messages.push(fault.message);
            hint = hint.or(fault.hint);
        }
        if hidden > 0 {
            messages.push(format!("and {hidden} more"));
        }
        Self { message: messages.join("\n"), lines, hint }
    }

    /// The same fault with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Lines {
    /// As clients read it.
    pub fn to_range(self) -> Range {
        let at = |line: usize| Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 };
        Range { start: at(self.first), end: at(self.last) }
    }
}

impl Error {
    /// A fault of a text, with the text.
    pub fn in_text(fault: Fault, filename: &str, text: &[u8]) -> Self {
        let info = SourceText {
            filename: filename.to_owned(),
            data: text.to_vec(),
            language: "Dockerfile".to_owned(),
        };
        let ranges = fault.lines.iter().map(|lines| lines.to_range()).collect();
        Self::Dockerfile { fault, location: Box::new(Source { info, ranges }) }
    }

    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dockerfile { .. } | Self::Option { .. } => ErrorKind::InvalidArgument,
            Self::Subrequest { .. } | Self::Capability { .. } => ErrorKind::Unimplemented,
            Self::Read { source, .. } | Self::Frontend { source, .. } | Self::ResolveImage { source, .. } => {
                source.kind
            }
        }
    }

    /// What a user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Dockerfile { fault, .. } => fault.hint.clone(),
            Self::Subrequest { .. } => {
                Some("this frontend answers check, outline, targets and describe".to_owned())
            }
            _ => None,
        }
    }

    /// The text and the places in it that are at fault.
    pub fn location(&self) -> Option<&Source> {
        match self {
            Self::Dockerfile { location, .. } | Self::ResolveImage { location, .. } => Some(location),
            Self::Option { .. }
            | Self::Subrequest { .. }
            | Self::Capability { .. }
            | Self::Frontend { .. }
            | Self::Read { .. } => None,
        }
    }

    /// The causes, joined with colons.
    pub(crate) fn chain(&self) -> String {
        let (mut text, mut next) = (self.to_string(), std::error::Error::source(self));
        while let Some(cause) = next {
            text.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        text
    }
}

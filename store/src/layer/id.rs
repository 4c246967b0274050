//! Id: the number of a committed layer, which is that of its row and the name of its file.

/// A committed layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub(crate) i64);

impl LayerId {
    /// The layer of a row's number.
    pub(crate) fn of_row(number: i64) -> Self {
        Self(number)
    }

    /// Its row's number.
    pub(crate) fn number(self) -> i64 {
        self.0
    }
}

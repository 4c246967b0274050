//! Result: what a vertex gave, as a handle.
//!
//! The solver only passes it on; who made it knows what is inside. A handle keeps its thing alive.

use std::{any::Any, fmt, sync::Arc};

/// Something an op made.
pub trait ResultHandle: Send + Sync + fmt::Debug {
    /// For the maker, to find its own type again.
    fn as_any(&self) -> &dyn Any;
}

/// A shared handle.
pub type OpResult = Arc<dyn ResultHandle>;

/// The number of a stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultId(pub i64);

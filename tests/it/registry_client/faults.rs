//! Faults: F-26 to F-38 of the specification.

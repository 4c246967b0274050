//! Golden cases and whole-frontend faults.

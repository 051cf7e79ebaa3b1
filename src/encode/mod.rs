//! Rows to bytes: one encoder per format, shared by the sinks and standard output.

pub mod csv;
pub mod json;
pub mod text;

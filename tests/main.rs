//! One test binary: each further one would link DataFusion again.

mod golden_slt;
mod oracle;
mod queries;
mod support;

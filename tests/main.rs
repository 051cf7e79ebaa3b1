//! One test binary: each further one would link DataFusion again.

mod cli;
mod golden_slt;
mod kafka;
mod memory;
mod oracle;
mod poison;
mod queries;
mod s3;
mod simulator;
mod support;
mod tidy;
mod torture;
